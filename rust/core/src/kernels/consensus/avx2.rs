//! The algorithm of `scalar.rs`, compiled for AVX2. No FMA: fusing would round differently.

#![cfg(target_arch = "x86_64")]

use super::{Map, Moments, Points, scalar};

/// See [`super::Consensus::gains`].
#[target_feature(enable = "avx2")]
pub fn gains(points: &Points, maps: &[Map], squared_radius: f32) -> scalar::Lanes {
    scalar::gains(points, maps, squared_radius)
}

/// See [`super::Consensus::moments`].
#[target_feature(enable = "avx2")]
pub fn moments(points: &Points, map: &Map, squared_radius: f32) -> Moments {
    scalar::moments(points, map, squared_radius)
}

/// See [`super::Consensus::near`].
#[target_feature(enable = "avx2")]
pub fn near(points: &Points, u0: f32, v0: f32, squared_radius: f32) -> u32 {
    scalar::near(points, u0, v0, squared_radius)
}
