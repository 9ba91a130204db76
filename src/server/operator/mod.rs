//! The operator's routes: adapters, settings, events, the page and its load generator.

pub(crate) mod admin;
pub(crate) mod current;
pub(crate) mod events;
pub(crate) mod expect;
pub(crate) mod live;
pub(crate) mod load;
pub(crate) mod openapi;
pub(crate) mod rendered;
pub(crate) mod settings;
pub(crate) mod web;
pub(crate) mod whatif;
