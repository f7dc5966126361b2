//! The algorithm of `scalar.rs`, compiled for AVX-512.

#![cfg(target_arch = "x86_64")]

use super::scalar;

/// See [`super::Count::above`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub fn above(scores: &[f32], limits: &[[f32; 2]], counts: &mut [[u64; 2]]) -> bool {
    scalar::above(scores, limits, counts)
}
