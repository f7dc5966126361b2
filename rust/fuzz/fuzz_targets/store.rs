//! Coverage-guided fuzzing of everything that parses the files of a store: `cargo +nightly fuzz run store`.
#![no_main]

#[path = "../drive.rs"]
mod drive;

libfuzzer_sys::fuzz_target!(|input: &[u8]| drive::drive(input));
