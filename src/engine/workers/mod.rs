//! Adapters and their worker processes: listing, launch, link, exit, memory.

pub(crate) mod assumptions;
pub(crate) mod children;
pub(crate) mod discovery;
pub(crate) mod environment;
pub(crate) mod fleet;
pub(crate) mod hotplug;
pub(crate) mod launch;
pub(crate) mod link;
pub(crate) mod lister;
pub(crate) mod listings;
pub(crate) mod memory_budget;
pub(crate) mod memory_watch;
mod model_files;
pub(crate) mod platform;
pub(crate) mod process;
pub(crate) mod sensors;
pub(crate) mod sent_batches;
pub(crate) mod stderr;
pub(crate) mod worker_report;
