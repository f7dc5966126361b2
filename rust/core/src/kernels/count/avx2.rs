//! Eight scores and up to four limits at a time: a score is loaded once for all of them.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;

use super::{BLOCK, first, in_groups, scalar};

const LANES: usize = 8;

/// See [`super::Count::above`].
#[target_feature(enable = "avx2,fma")]
pub fn above(scores: &[f32], limits: &[[f32; 2]], counts: &mut [[u64; 2]]) -> bool {
    let (body, tail) = scores.split_at(scores.len() / LANES * LANES);
    let mut finite = scalar::above(tail, limits, counts);
    for block in body.chunks(BLOCK) {
        let (range, good) = extremes(block);
        finite &= good;
        in_groups(block.len(), range, limits, counts, |group, filled| match filled {
            1 => first(group, |limits| count::<1>(block, limits)),
            2 => first(group, |limits| count::<2>(block, limits)),
            3 => first(group, |limits| count::<3>(block, limits)),
            _ => count(block, group),
        });
    }
    finite
}

/// The smallest and the largest score, and whether all are finite. The block is whole registers.
#[target_feature(enable = "avx2,fma")]
fn extremes(block: &[f32]) -> ([f32; 2], bool) {
    let magnitude = _mm256_set1_epi32(i32::MAX);
    let (mut low, mut high) = (_mm256_set1_ps(f32::INFINITY), _mm256_set1_ps(f32::NEG_INFINITY));
    let (mut lower, mut higher) = (low, high);
    let mut largest = _mm256_setzero_si256();
    for pair in block.chunks(2 * LANES) {
        // SAFETY: the block is whole registers, so the pair is one or two of them.
        let (a, b) = unsafe {
            (_mm256_loadu_ps(pair.as_ptr()), _mm256_loadu_ps(pair.as_ptr().add(pair.len() - LANES)))
        };
        (low, lower) = (_mm256_min_ps(low, a), _mm256_min_ps(lower, b));
        (high, higher) = (_mm256_max_ps(high, a), _mm256_max_ps(higher, b));
        // As integers magnitudes are in order, NaN beyond infinity.
        for values in [a, b] {
            largest = _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(values), magnitude));
        }
    }
    let range = [
        lanes(_mm256_min_ps(low, lower)).into_iter().fold(f32::INFINITY, f32::min),
        lanes(_mm256_max_ps(high, higher)).into_iter().fold(f32::NEG_INFINITY, f32::max),
    ];
    (range, lanes(_mm256_castsi256_ps(largest)).into_iter().all(f32::is_finite))
}

/// For each limit the scores above it and those of at least its lower end. The block is whole registers.
#[target_feature(enable = "avx2,fma")]
fn count<const N: usize>(block: &[f32], limits: [[f32; 2]; N]) -> [[u64; 2]; N] {
    let ends = limits.map(|limit| limit.map(|end| _mm256_set1_ps(end)));
    let mut sums = [[_mm256_setzero_si256(); 2]; N];
    for part in block.chunks_exact(LANES) {
        // SAFETY: the part is one register long.
        let values = unsafe { _mm256_loadu_ps(part.as_ptr()) };
        for ([least, most], [above, within]) in ends.iter().zip(&mut sums) {
            // A lane that holds is -1.
            let beyond = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GT_OQ>(values, *most));
            let inside = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GE_OQ>(values, *least));
            *above = _mm256_sub_epi32(*above, beyond);
            *within = _mm256_sub_epi32(*within, inside);
        }
    }
    sums.map(|pair| {
        pair.map(|sum| {
            lanes(_mm256_castsi256_ps(sum)).into_iter().map(|lane| u64::from(lane.to_bits())).sum()
        })
    })
}

/// The eight numbers of a register.
#[target_feature(enable = "avx2,fma")]
fn lanes(register: __m256) -> [f32; LANES] {
    let mut values = [0.0; LANES];
    // SAFETY: the array is one register long.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), register) };
    values
}
