//! `model.toml`.
#![no_main]

concertina_fuzz::target!(concertina::model::hostile::manifest);
