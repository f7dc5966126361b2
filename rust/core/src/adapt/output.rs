//! What becomes of the results of a row.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// A form of results.
pub trait Output {
    /// What is written.
    type Item: Copy + Send;

    /// Items for a row of `width` results.
    fn places(width: usize) -> usize;

    /// Writes a row.
    fn put(results: &[f32], out: &mut [Self::Item]);
}

/// As they are.
#[derive(Debug)]
pub struct Vectors;

impl Output for Vectors {
    type Item = f32;

    fn places(width: usize) -> usize {
        width
    }

    fn put(results: &[f32], out: &mut [f32]) {
        out.copy_from_slice(results);
    }
}

/// Rounded to the nearest float16, ties to even.
#[derive(Debug)]
pub struct Halves;

impl Output for Halves {
    type Item = f16;

    fn places(width: usize) -> usize {
        width
    }

    fn put(results: &[f32], out: &mut [f16]) {
        out.convert_from_f32_slice(results);
    }
}

/// One bit each, 1 where the result is at least 0; the first is the most significant, those after the last are 0.
#[derive(Debug)]
pub struct Signs;

impl Output for Signs {
    type Item = u8;

    fn places(width: usize) -> usize {
        width.div_ceil(8)
    }

    fn put(results: &[f32], out: &mut [u8]) {
        for (results, byte) in results.chunks(8).zip(out) {
            *byte = results
                .iter()
                .enumerate()
                .fold(0, |byte, (bit, result)| byte | u8::from(*result >= 0.0) << (7 - bit));
        }
    }
}
