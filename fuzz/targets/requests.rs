//! Bodies of inference requests, with their headers.
#![no_main]

concertina_fuzz::target!(concertina::api::hostile::request);
