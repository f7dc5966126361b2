//! The algorithm of `scalar.rs`, compiled for AVX2.

#![cfg(target_arch = "x86_64")]

use super::scalar;

/// See [`super::Count::above`].
#[target_feature(enable = "avx2,fma")]
pub fn above(scores: &[f32], limits: &[[f32; 2]], counts: &mut [[u64; 2]]) -> bool {
    scalar::above(scores, limits, counts)
}
