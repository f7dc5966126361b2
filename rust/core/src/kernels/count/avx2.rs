//! Eight scores and up to four limits at a time: a score is loaded once for all of them.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;

use super::blocks::{Counts, fetch_ahead, first, in_blocks};

const LANES: usize = 8;
const GROUP: usize = 4;

/// See [`super::Count::above`].
#[target_feature(enable = "avx2,fma")]
pub fn above(scores: &[f32], limits: &[[f32; 2]], counts: &mut [[u64; 2]]) -> bool {
    let of_group = |block: &[f32], group: [_; GROUP], filled| match filled {
        1 => first(group, |limits| count::<1>(block, limits)),
        2 => first(group, |limits| count::<2>(block, limits)),
        3 => first(group, |limits| count::<3>(block, limits)),
        _ => count(block, group),
    };
    in_blocks::<LANES, GROUP>(scores, limits, counts, |block| extremes(block), of_group)
}

/// The smallest and the largest score, and whether all are finite. The block is whole registers.
#[target_feature(enable = "avx2,fma")]
fn extremes(block: &[f32]) -> ([f32; 2], bool) {
    let (mut low, mut high) = (_mm256_set1_ps(f32::INFINITY), _mm256_set1_ps(f32::NEG_INFINITY));
    let mut largest = _mm256_setzero_si256();
    for part in block.chunks_exact(LANES) {
        fetch_ahead(part);
        // SAFETY: the part is one register long.
        let values = unsafe { _mm256_loadu_ps(part.as_ptr()) };
        low = _mm256_min_ps(low, values);
        high = _mm256_max_ps(high, values);
        largest = larger(largest, values);
    }
    let range = [
        lanes(low).into_iter().fold(f32::INFINITY, f32::min),
        lanes(high).into_iter().fold(f32::NEG_INFINITY, f32::max),
    ];
    (range, is_finite(largest))
}

/// For each limit the scores above it and those of at least its lower end; whether all are finite. The block is
/// whole registers.
#[target_feature(enable = "avx2,fma")]
fn count<const N: usize>(block: &[f32], limits: [[f32; 2]; N]) -> (Counts<N>, bool) {
    let ends = limits.map(|limit| limit.map(|end| _mm256_set1_ps(end)));
    let mut sums = [[_mm256_setzero_si256(); 2]; N];
    let mut largest = _mm256_setzero_si256();
    for part in block.chunks_exact(LANES) {
        fetch_ahead(part);
        // SAFETY: the part is one register long.
        let values = unsafe { _mm256_loadu_ps(part.as_ptr()) };
        largest = larger(largest, values);
        for ([least, most], [above, within]) in ends.iter().zip(&mut sums) {
            // A lane that holds is -1.
            let beyond = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GT_OQ>(values, *most));
            let inside = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GE_OQ>(values, *least));
            *above = _mm256_sub_epi32(*above, beyond);
            *within = _mm256_sub_epi32(*within, inside);
        }
    }
    let counts = sums.map(|pair| {
        pair.map(|sum| {
            lanes(_mm256_castsi256_ps(sum)).into_iter().map(|lane| u64::from(lane.to_bits())).sum()
        })
    });
    (counts, is_finite(largest))
}

/// The larger magnitudes, as integers: those are in order, NaN beyond infinity.
#[target_feature(enable = "avx2,fma")]
fn larger(largest: __m256i, values: __m256) -> __m256i {
    let magnitude = _mm256_and_si256(_mm256_castps_si256(values), _mm256_set1_epi32(i32::MAX));
    _mm256_max_epi32(largest, magnitude)
}

/// Whether the largest magnitudes are of finite numbers.
#[target_feature(enable = "avx2,fma")]
fn is_finite(largest: __m256i) -> bool {
    lanes(_mm256_castsi256_ps(largest)).into_iter().all(f32::is_finite)
}

/// The eight numbers of a register.
#[target_feature(enable = "avx2,fma")]
fn lanes(register: __m256) -> [f32; LANES] {
    let mut values = [0.0; LANES];
    // SAFETY: the array is one register long.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), register) };
    values
}
