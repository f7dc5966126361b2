//! The algorithm of `scalar.rs`, compiled for AVX2.

#![cfg(target_arch = "x86_64")]

use super::{Fit, Lanes, Maps, Points, scalar};

/// See [`super::Consensus::gains`].
#[target_feature(enable = "avx2,fma")]
pub fn gains(points: &Points, most: usize, maps: &Maps, squared_radius: f32) -> Lanes {
    scalar::gains(points, most, maps, squared_radius)
}

/// See [`super::Consensus::supports`].
#[target_feature(enable = "avx2,fma")]
pub fn supports(points: &Points, maps: &Maps) -> Lanes {
    scalar::supports(points, maps)
}

/// See [`super::Consensus::refine`].
#[target_feature(enable = "avx2,fma")]
pub fn refine(points: &Points, most: usize, maps: &mut Maps, squared_radius: f32, fit: &Fit) {
    scalar::refine(points, most, maps, squared_radius, fit);
}

/// See [`super::Consensus::pairs`].
#[target_feature(enable = "avx2,fma")]
pub fn pairs(points: &Points, start: usize, offset: usize, area: f32) -> Maps {
    scalar::pairs(points, start, offset, area)
}

/// See [`super::Consensus::triples`].
#[target_feature(enable = "avx2,fma")]
pub fn triples(points: &Points, start: usize, offsets: [usize; 2], area: f32, spread: f32) -> Maps {
    scalar::triples(points, start, offsets, area, spread)
}

/// See [`super::Consensus::keypoints`].
#[target_feature(enable = "avx2,fma")]
pub fn keypoints(points: &Points, start: usize) -> Maps {
    scalar::keypoints(points, start)
}

/// See [`super::Consensus::near`].
#[target_feature(enable = "avx2,fma")]
pub fn near(points: &Points, u0: f32, v0: f32, squared_radius: f32) -> u32 {
    scalar::near(points, u0, v0, squared_radius)
}
