//! Streams of frames, in both directions.
#![no_main]

concertina_fuzz::target!(concertina::wire::hostile::frames);
