//! The algorithm of `scalar.rs`, compiled for AVX-512.

#![cfg(target_arch = "x86_64")]

use core::arch::x86_64::{
    _CMP_GT_OQ, _CMP_ORD_Q, _mm512_cmp_ps_mask, _mm512_loadu_ps, _mm512_maskz_compress_ps, _mm512_set1_ps,
    _mm512_storeu_ps,
};
use std::ops::Range;

use super::scan::{self, Pack, Waiting};
use super::{Fit, LANES, Lanes, Maps, Offer, Points, Scaling, Scoring, Source, scalar};

/// [`Pack`] by compressing registers; only for the functions of this file.
struct Packed;

#[allow(clippy::inline_always, reason = "must become a part of functions that have the features")]
impl Pack for Packed {
    #[inline(always)]
    fn above(values: &Lanes, bar: f32) -> u32 {
        // SAFETY: only functions with these features call this; the sixteen values are a register's worth.
        unsafe {
            let values = _mm512_loadu_ps(values.as_ptr());
            u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(values, _mm512_set1_ps(bar)))
        }
    }

    #[inline(always)]
    fn append(waiting: &mut Waiting, count: usize, maps: &Maps, lanes: u32) -> usize {
        assert!(count <= LANES, "room for sixteen more");
        // SAFETY: only functions with these features call this; each row has room for a register from `count` on.
        unsafe {
            let first = _mm512_loadu_ps(maps[0].as_ptr());
            let lanes = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(first, first) & lanes as u16;
            for (row, map) in waiting.iter_mut().zip(maps) {
                let packed = _mm512_maskz_compress_ps(lanes, _mm512_loadu_ps(map.as_ptr()));
                _mm512_storeu_ps(row.as_mut_ptr().add(count), packed);
            }
            count + lanes.count_ones() as usize
        }
    }
}

/// See [`super::Consensus::fill`].
#[target_feature(enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
pub fn fill(points: &mut Points, correspondences: &[[f32; 4]], order: &[u32], scaling: &Scaling) {
    scalar::fill(points, correspondences, order, scaling);
}

/// See [`super::Consensus::extent`].
#[target_feature(enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
pub fn extent(points: &Points) -> [f32; 2] {
    scalar::extent(points)
}

/// See [`super::Consensus::scan`].
#[target_feature(enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
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
#[target_feature(enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
pub fn supports(points: &Points, maps: &Maps) -> Lanes {
    scalar::supports(points, maps)
}

/// See [`super::Consensus::refine`].
#[target_feature(enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
pub fn refine(points: &Points, most: usize, maps: &mut Maps, squared_radius: f32, fit: &Fit) {
    scalar::refine(points, most, maps, squared_radius, fit);
}

/// See [`super::Consensus::polish`].
#[target_feature(enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
pub fn polish(points: &Points, map: &mut [f32; 6], steps: &[Scoring], fit: &Fit) -> f32 {
    scalar::polish(points, map, steps, fit)
}

/// See [`super::Consensus::near`].
#[target_feature(enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
pub fn near(points: &Points, u0: f32, v0: f32, squared_radius: f32) -> u32 {
    scalar::near(points, u0, v0, squared_radius)
}
