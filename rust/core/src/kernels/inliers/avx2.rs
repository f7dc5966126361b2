//! The algorithm of `scalar.rs`, compiled for AVX2.

#![cfg(target_arch = "x86_64")]

use super::{Columns, Sums, scalar};

/// See [`super::Inliers::fill`].
#[target_feature(enable = "avx2,fma")]
pub fn fill(correspondences: &[[f32; 4]], columns: &mut Columns) -> [f64; 4] {
    scalar::fill(correspondences, columns)
}

/// See [`super::Inliers::count`].
#[target_feature(enable = "avx2,fma")]
pub fn count(columns: &Columns, map: &[f64; 6], inverse: f64) -> (usize, f64) {
    scalar::count(columns, map, inverse)
}

/// See [`super::Inliers::moments`].
#[target_feature(enable = "avx2,fma")]
pub fn moments(columns: &Columns, map: &[f64; 6], squared_threshold: f64) -> Option<Sums> {
    scalar::moments(columns, map, squared_threshold)
}

/// See [`super::Inliers::mask`].
#[target_feature(enable = "avx2,fma")]
pub fn mask(columns: &Columns, map: &[f64; 6], threshold: f64, mask: &mut Vec<bool>) -> usize {
    scalar::mask(columns, map, threshold, mask)
}
