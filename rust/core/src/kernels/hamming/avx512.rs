//! AVX-512 VPOPCNTDQ: 8 codes a register, 64 codes a comparison.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;

use super::{BLOCK, Distances, scalar};

/// Codes in a register.
const LANES: usize = 8;

/// Bytes ahead of the codes that are asked for while they are packed.
const AHEAD: usize = 4096;

/// Longest code whose distances fit in 16 bits, in words.
const SHORT: usize = 1023;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
pub fn seek(query: &[u64], planes: &[u64], limit: u32, distances: &mut Distances) -> (usize, u64) {
    match query.len() {
        1 => words::<1>(query, planes, limit, distances),
        2 => words::<2>(query, planes, limit, distances),
        3 => words::<3>(query, planes, limit, distances),
        4 => words::<4>(query, planes, limit, distances),
        8 => words::<8>(query, planes, limit, distances),
        _ => any(query, planes, limit, distances),
    }
}

/// The lesser of sums in each lane. Of `short` ones, below 2^16, the minimum of 16-bit lanes runs on twice as many ports as that
/// of 64-bit lanes, and is the same.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn minimum(a: __m512i, b: __m512i, short: bool) -> __m512i {
    if short { _mm512_min_epu16(a, b) } else { _mm512_min_epu64(a, b) }
}

/// Writes the distances of a block, and returns which are below the limits.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn keep(sums: &[__m512i; BLOCK / LANES], limits: __m512i, distances: &mut Distances) -> u64 {
    let mut hits = 0;
    for (group, &sum) in sums.iter().enumerate() {
        hits |= u64::from(_mm512_cmplt_epu64_mask(sum, limits)) << (group * LANES);
        let place = distances[group * LANES..][..LANES].as_mut_ptr();
        // SAFETY: 8 distances start at `place`.
        unsafe { _mm256_storeu_si256(place.cast(), _mm512_cvtepi64_epi32(sum)) };
    }
    hits
}

/// Codes of any length: one word of all 64 codes after the other, with their sums in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
fn any(query: &[u64], planes: &[u64], limit: u32, distances: &mut Distances) -> (usize, u64) {
    let limits = _mm512_set1_epi64(i64::from(limit));
    let blocks = planes.chunks_exact(query.len() * BLOCK);
    let count = blocks.len();
    for (block, planes) in blocks.enumerate() {
        let mut sums = [_mm512_setzero_si512(); BLOCK / LANES];
        for (&word, codes) in query.iter().zip(planes.as_chunks::<BLOCK>().0) {
            let word = _mm512_set1_epi64(word as i64);
            for (group, sum) in sums.iter_mut().enumerate() {
                // SAFETY: a plane has 64 codes, 8 of which start at `group * 8`.
                let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().add(group * LANES).cast()) };
                *sum = _mm512_add_epi64(*sum, _mm512_popcnt_epi64(_mm512_xor_si512(codes, word)));
            }
        }
        let mut least = sums[0];
        for &sum in &sums[1..] {
            least = minimum(least, sum, query.len() <= SHORT);
        }
        if _mm512_cmplt_epu64_mask(least, limits) != 0 {
            return (block, keep(&sums, limits, distances));
        }
    }
    (count, 0)
}

/// The distances of 8 codes of a block.
///
/// # Safety
/// `planes` points to a block of `query.len()` planes, and `group` is below 8.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
unsafe fn sums(query: &[__m512i], planes: *const u64, group: usize) -> __m512i {
    let mut sum = _mm512_setzero_si512();
    for (w, &word) in query.iter().enumerate() {
        // SAFETY: plane `w` has 64 codes, 8 of which start at `group * 8`.
        let codes = unsafe { _mm512_loadu_si512(planes.add(w * BLOCK + group * LANES).cast()) };
        let bits = _mm512_popcnt_epi64(_mm512_xor_si512(codes, word));
        sum = if w == 0 { bits } else { _mm512_add_epi64(sum, bits) };
    }
    sum
}

/// With `W` words in a code, which stay in registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
fn words<const W: usize>(
    query: &[u64],
    planes: &[u64],
    limit: u32,
    distances: &mut Distances,
) -> (usize, u64) {
    let query: [__m512i; W] = core::array::from_fn(|w| _mm512_set1_epi64(query[w] as i64));
    let limits = _mm512_set1_epi64(i64::from(limit));
    let blocks = planes.chunks_exact(W * BLOCK);
    let count = blocks.len();
    for (block, planes) in blocks.enumerate() {
        // SAFETY: a block has a plane of 64 codes for each word of the query.
        let sums = |group| unsafe { sums(&query, planes.as_ptr(), group) };
        let mut least = sums(0);
        for group in 1..BLOCK / LANES {
            least = minimum(least, sums(group), true);
        }
        // One comparison tells whether any of the 64 codes is near.
        if _mm512_cmplt_epu64_mask(least, limits) != 0 {
            return (block, keep(&core::array::from_fn(sums), limits, distances));
        }
    }
    (count, 0)
}

#[target_feature(enable = "avx512f")]
pub fn pack(codes: &[u8], words: usize, planes: &mut [u64]) {
    match words {
        1 => transpose::<1>(codes, planes),
        2 => transpose::<2>(codes, planes),
        4 => transpose::<4>(codes, planes),
        8 => transpose::<8>(codes, planes),
        16 => transpose::<16>(codes, planes),
        _ => scalar::pack(codes, words, planes),
    }
}

/// 8 codes of `W` words at a time. Value `code * W + w` of `W` registers must become value `w * 8 + code`: the
/// bits of its number are rotated, and taking even values first, odd ones after, rotates them by one.
#[target_feature(enable = "avx512f")]
fn transpose<const W: usize>(codes: &[u8], planes: &mut [u64]) {
    assert!(codes.len() == W * 8 * BLOCK && planes.len() == W * BLOCK, "one block");
    let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    for group in 0..BLOCK / LANES {
        for line in 0..W {
            let ahead = codes.as_ptr().wrapping_add((group * W + line) * 64 + AHEAD);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        }
        // SAFETY: a group of 8 codes is `W` registers.
        let mut values: [__m512i; W] = core::array::from_fn(|at| unsafe {
            _mm512_loadu_si512(codes.as_ptr().add((group * W + at) * 64).cast())
        });
        for _ in 0..W.ilog2() {
            values = core::array::from_fn(|at| {
                let (pair, order) = if at < W / 2 { (at, even) } else { (at - W / 2, odd) };
                _mm512_permutex2var_epi64(values[2 * pair], order, values[2 * pair + 1])
            });
        }
        for (w, value) in values.into_iter().enumerate() {
            // SAFETY: plane `w` has 64 codes, 8 of which start at `group * 8`.
            unsafe {
                _mm512_storeu_si512(planes.as_mut_ptr().add(w * BLOCK + group * LANES).cast(), value);
            }
        }
    }
}
