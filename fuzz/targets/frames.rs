//! Streams of frames, in both directions.
#![no_main]

concertina_fuzz::target!(wire::hostile::frames);
