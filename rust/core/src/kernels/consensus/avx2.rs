//! The algorithm of `scalar.rs`, compiled for AVX2.

#![cfg(target_arch = "x86_64")]

use core::arch::x86_64::{
    _CMP_GT_OQ, _CMP_ORD_Q, _mm256_cmp_ps, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_set1_ps,
};
use std::ops::Range;

use super::scan::{self, Pack, Waiting};
use super::{Fit, LANES, Lanes, Maps, Offer, Points, Scaling, Scoring, Source, scalar};

/// [`Pack`] by masks from registers; only for the functions of this file.
struct Packed;

#[allow(clippy::inline_always, reason = "must become a part of functions that have the features")]
impl Pack for Packed {
    #[inline(always)]
    fn above(values: &Lanes, bar: f32) -> u32 {
        // SAFETY: only functions with these features call this; eight of sixteen values are a register's worth.
        unsafe {
            let bar = _mm256_set1_ps(bar);
            let above = |values: &[f32; LANES / 2]| {
                let above = _mm256_cmp_ps::<_CMP_GT_OQ>(_mm256_loadu_ps(values.as_ptr()), bar);
                _mm256_movemask_ps(above) as u32
            };
            let (halves, _) = values.as_chunks();
            above(&halves[0]) | above(&halves[1]) << 8
        }
    }

    #[inline(always)]
    fn append(waiting: &mut Waiting, mut count: usize, maps: &Maps, lanes: u32) -> usize {
        // SAFETY: only functions with these features call this; eight of sixteen values are a register's worth.
        let mut lanes = unsafe {
            let numbers = |values: &[f32; LANES / 2]| {
                let values = _mm256_loadu_ps(values.as_ptr());
                _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_ORD_Q>(values, values)) as u32
            };
            let (halves, _) = maps[0].as_chunks();
            lanes & (numbers(&halves[0]) | numbers(&halves[1]) << 8)
        };
        while lanes != 0 {
            let lane = lanes.trailing_zeros() as usize % LANES;
            lanes &= lanes - 1;
            for (row, map) in waiting.iter_mut().zip(maps) {
                row[count] = map[lane];
            }
            count += 1;
        }
        count
    }
}

/// See [`super::Consensus::fill`].
#[target_feature(enable = "avx2,fma,popcnt")]
pub fn fill(points: &mut Points, correspondences: &[[f32; 4]], order: &[u32], scaling: &Scaling) {
    scalar::fill(points, correspondences, order, scaling);
}

/// See [`super::Consensus::extent`].
#[target_feature(enable = "avx2,fma,popcnt")]
pub fn extent(points: &Points) -> [f32; 2] {
    scalar::extent(points)
}

/// See [`super::Consensus::scan`].
#[target_feature(enable = "avx2,fma,popcnt")]
pub fn scan(
    points: &Points,
    source: &Source<'_>,
    batches: Range<usize>,
    scoring: &Scoring,
    bar: f32,
    offer: &mut Offer<'_>,
) {
    scan::scan::<Packed>(points, source, batches, scoring, bar, offer);
}

/// See [`super::Consensus::supports`].
#[target_feature(enable = "avx2,fma,popcnt")]
pub fn supports(points: &Points, maps: &Maps) -> Lanes {
    scalar::supports(points, maps)
}

/// See [`super::Consensus::refine`].
#[target_feature(enable = "avx2,fma,popcnt")]
pub fn refine(points: &Points, most: usize, maps: &mut Maps, squared_radius: f32, fit: &Fit) {
    scalar::refine(points, most, maps, squared_radius, fit);
}

/// See [`super::Consensus::polish`].
#[target_feature(enable = "avx2,fma,popcnt")]
pub fn polish(points: &Points, map: &mut [f32; 6], steps: &[Scoring], fit: &Fit) -> f32 {
    scalar::polish(points, map, steps, fit)
}

/// See [`super::Consensus::near`].
#[target_feature(enable = "avx2,fma,popcnt")]
pub fn near(points: &Points, u0: f32, v0: f32, squared_radius: f32) -> u32 {
    scalar::near(points, u0, v0, squared_radius)
}
