//! `model.toml`.
#![no_main]

concertina_fuzz::target!(kinds::hostile::manifest);
