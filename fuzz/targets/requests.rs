//! Bodies of inference requests, with their headers.
#![no_main]

concertina_fuzz::target!(server::hostile::request);
