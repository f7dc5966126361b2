//! Sixteen scores and up to eight limits at a time: a score is loaded once for all of them.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;

use super::blocks::{Counts, fetch_ahead, first, in_blocks};

const LANES: usize = 16;
const GROUP: usize = 8;

/// See [`super::Count::above`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,popcnt")]
pub fn above(scores: &[f32], limits: &[[f32; 2]], counts: &mut [[u64; 2]]) -> bool {
    let of_group = |block: &[f32], group: [_; GROUP], filled| match filled {
        1 => first(group, |limits| count::<1>(block, limits)),
        2 => first(group, |limits| count::<2>(block, limits)),
        3 => first(group, |limits| count::<3>(block, limits)),
        4 => first(group, |limits| count::<4>(block, limits)),
        5 => first(group, |limits| count::<5>(block, limits)),
        6 => first(group, |limits| count::<6>(block, limits)),
        7 => first(group, |limits| count::<7>(block, limits)),
        _ => count(block, group),
    };
    in_blocks::<LANES, GROUP>(scores, limits, counts, |block| extremes(block), of_group)
}

/// The smallest and the largest score, and whether all are finite. The block is whole registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,popcnt")]
fn extremes(block: &[f32]) -> ([f32; 2], bool) {
    /// NaN of both kinds, and both infinities.
    const WRONG: i32 = 0x01 | 0x80 | 0x08 | 0x10;
    let (mut low, mut high) = (_mm512_set1_ps(f32::INFINITY), _mm512_set1_ps(f32::NEG_INFINITY));
    let mut wrong = 0;
    for part in block.chunks_exact(LANES) {
        fetch_ahead(part);
        // SAFETY: the part is one register long.
        let values = unsafe { _mm512_loadu_ps(part.as_ptr()) };
        low = _mm512_min_ps(low, values);
        high = _mm512_max_ps(high, values);
        wrong |= _mm512_fpclass_ps_mask::<WRONG>(values);
    }
    ([_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high)], wrong == 0)
}

/// For each limit the scores above it and those of at least its lower end; whether all are finite. The block is
/// whole registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,popcnt")]
fn count<const N: usize>(block: &[f32], limits: [[f32; 2]; N]) -> (Counts<N>, bool) {
    if limits.iter().all(|[least, most]| least >= most) {
        let (above, tied, finite) = points(block, limits.map(|[_, limit]| limit));
        if !tied {
            return (above.map(|count| [count; 2]), finite);
        }
    }
    ranges(block, limits)
}

/// The scores above each of some numbers, whether one is equal to any, and whether all are finite.
///
/// One comparison a number: there is one unit for those that fill masks. That a score is equal shows in the
/// smallest difference, which other units find.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,popcnt")]
fn points<const N: usize>(block: &[f32], limits: [f32; N]) -> ([u64; N], bool, bool) {
    /// Of two numbers the one of smaller magnitude, without its sign.
    const NEARER: i32 = 0b1010;
    let limits = limits.map(|limit| _mm512_set1_ps(limit));
    let less = _mm512_set1_epi32(-1);
    let (mut above, mut nearest) = ([_mm512_setzero_si512(); N], [_mm512_set1_ps(f32::MAX); 2]);
    let mut largest = _mm512_setzero_si512();
    for part in block.chunks_exact(LANES) {
        fetch_ahead(part);
        // SAFETY: the part is one register long.
        let values = unsafe { _mm512_loadu_ps(part.as_ptr()) };
        largest = larger(largest, values);
        for (j, (&limit, above)) in limits.iter().zip(&mut above).enumerate() {
            let beyond = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(values, limit);
            *above = _mm512_mask_sub_epi32(*above, beyond, *above, less);
            // Two of them, or each would wait for the one before.
            nearest[j % 2] = _mm512_range_ps::<NEARER>(nearest[j % 2], _mm512_sub_ps(values, limit));
        }
    }
    let tied = _mm512_reduce_min_ps(_mm512_min_ps(nearest[0], nearest[1])) <= 0.0;
    (above.map(|sum| sum_of(sum)), tied, is_finite(largest))
}

/// See [`count`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,popcnt")]
fn ranges<const N: usize>(block: &[f32], limits: [[f32; 2]; N]) -> (Counts<N>, bool) {
    let ends = limits.map(|limit| limit.map(|end| _mm512_set1_ps(end)));
    let less = _mm512_set1_epi32(-1);
    let mut sums = [[_mm512_setzero_si512(); 2]; N];
    let mut largest = _mm512_setzero_si512();
    for part in block.chunks_exact(LANES) {
        fetch_ahead(part);
        // SAFETY: the part is one register long.
        let values = unsafe { _mm512_loadu_ps(part.as_ptr()) };
        largest = larger(largest, values);
        for ([least, most], [above, within]) in ends.iter().zip(&mut sums) {
            let beyond = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(values, *most);
            let inside = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(values, *least);
            *above = _mm512_mask_sub_epi32(*above, beyond, *above, less);
            *within = _mm512_mask_sub_epi32(*within, inside, *within, less);
        }
    }
    (sums.map(|pair| pair.map(|sum| sum_of(sum))), is_finite(largest))
}

/// The larger magnitudes, as integers: those are in order, NaN beyond infinity.
#[target_feature(enable = "avx512f")]
fn larger(largest: __m512i, values: __m512) -> __m512i {
    let magnitude = _mm512_and_si512(_mm512_castps_si512(values), _mm512_set1_epi32(i32::MAX));
    _mm512_max_epi32(largest, magnitude)
}

/// Whether the largest magnitudes are of finite numbers.
#[target_feature(enable = "avx512f")]
fn is_finite(largest: __m512i) -> bool {
    f32::from_bits(_mm512_reduce_max_epi32(largest) as u32).is_finite()
}

/// The sum of the lanes, none of which is negative.
#[target_feature(enable = "avx512f")]
fn sum_of(counts: __m512i) -> u64 {
    u64::from(_mm512_reduce_add_epi32(counts) as u32)
}
