//! Files that clients upload: images, recordings and others, through tables of `model.toml`.
#![no_main]

concertina_fuzz::target!(kinds::hostile::upload);
