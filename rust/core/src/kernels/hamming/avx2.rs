//! AVX2: bits counted by looking up nibbles, 4 codes a register.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;

use super::{BLOCK, Distances};

/// Codes in a register.
const LANES: usize = 4;

/// Words whose byte counts fit in a byte: 31 * 8 < 256.
const FITS: usize = 31;

/// Longest code whose distances fit in 16 bits, in words.
const SHORT: usize = 1023;

#[target_feature(enable = "avx2")]
pub fn seek(query: &[u64], planes: &[u64], limit: u32, distances: &mut Distances) -> (usize, u64) {
    match query.len() {
        1 => words::<1>(query, planes, limit, distances),
        2 => words::<2>(query, planes, limit, distances),
        4 => words::<4>(query, planes, limit, distances),
        8 => words::<8>(query, planes, limit, distances),
        _ => words::<0>(query, planes, limit, distances),
    }
}

/// The distances of 4 codes of a block.
///
/// # Safety
/// `planes` points to a block of `query.len()` planes, and `group` is below 16.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn sums(query: &[u64], planes: *const u64, group: usize) -> __m256i {
    let table = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    let nibble = _mm256_set1_epi8(0x0f);
    let zero = _mm256_setzero_si256();
    let mut sum = zero;
    for (part, words) in query.chunks(FITS).enumerate() {
        let mut counts = zero;
        for (w, &word) in words.iter().enumerate() {
            // SAFETY: each plane has 64 codes, 4 of which start at `group * 4`.
            let codes =
                unsafe { _mm256_loadu_si256(planes.add((part * FITS + w) * BLOCK + group * LANES).cast()) };
            let bits = _mm256_xor_si256(codes, _mm256_set1_epi64x(word as i64));
            let low = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, nibble));
            let high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(bits), nibble));
            counts = _mm256_add_epi8(counts, _mm256_add_epi8(low, high));
        }
        sum = _mm256_add_epi64(sum, _mm256_sad_epu8(counts, zero));
    }
    sum
}

/// With `W` words in a code; 0 for a number known only at run time.
#[inline]
#[target_feature(enable = "avx2")]
fn words<const W: usize>(
    query: &[u64],
    planes: &[u64],
    limit: u32,
    distances: &mut Distances,
) -> (usize, u64) {
    let query = if W == 0 { query } else { &query[..W] };
    let limits = _mm256_set1_epi64x(i64::from(limit));
    let blocks = planes.chunks_exact(query.len() * BLOCK);
    let count = blocks.len();
    for (block, planes) in blocks.enumerate() {
        // SAFETY: a block has a plane of 64 codes for each word of the query.
        let sums = |group| unsafe { sums(query, planes.as_ptr(), group) };
        if query.len() <= SHORT {
            // The minimum of 16-bit lanes is that of sums below 2^16: one comparison for 64 codes.
            let mut least = sums(0);
            for group in 1..BLOCK / LANES {
                least = _mm256_min_epu16(least, sums(group));
            }
            if _mm256_testz_si256(_mm256_cmpgt_epi64(limits, least), _mm256_set1_epi8(-1)) != 0 {
                continue;
            }
        }
        let mut hits = 0;
        for group in 0..BLOCK / LANES {
            let sum = sums(group);
            let mask = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(limits, sum)));
            hits |= (mask as u64) << (group * LANES);
            let mut lanes = [0_u64; LANES];
            // SAFETY: `lanes` is as long as the register.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
            for (distance, lane) in distances[group * LANES..].iter_mut().zip(lanes) {
                *distance = lane as u32;
            }
        }
        if hits != 0 {
            return (block, hits);
        }
    }
    (count, 0)
}
