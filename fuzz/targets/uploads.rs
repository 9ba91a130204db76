//! Files that clients upload: images, recordings and others, through the `[preprocess]` table of
//! `model.toml`.
#![no_main]

concertina_fuzz::target!(kinds::hostile::upload);
