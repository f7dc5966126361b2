//! AVX-512 VPOPCNTDQ: 8 codes a register.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;

use super::{BLOCK, Distances};

#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
pub fn below(query: &[u64], planes: &[u64], limit: u32, distances: &mut Distances) -> u64 {
    match query.len() {
        1 => words::<1>(query, planes, limit, distances),
        2 => words::<2>(query, planes, limit, distances),
        4 => words::<4>(query, planes, limit, distances),
        8 => words::<8>(query, planes, limit, distances),
        _ => words::<0>(query, planes, limit, distances),
    }
}

/// With `W` words in a code; 0 for a number known only at run time.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
fn words<const W: usize>(query: &[u64], planes: &[u64], limit: u32, distances: &mut Distances) -> u64 {
    let count = if W == 0 { query.len() } else { W };
    let limits = _mm512_set1_epi64(i64::from(limit));
    let mut hits = 0;
    for group in 0..BLOCK / 8 {
        let mut sum = _mm512_setzero_si512();
        for w in 0..count {
            // SAFETY: the wrapper checked that there is a plane of 64 codes for each word of the query.
            let bits = unsafe {
                let codes = _mm512_loadu_si512(planes.as_ptr().add(w * BLOCK + group * 8).cast());
                _mm512_xor_si512(codes, _mm512_set1_epi64(*query.as_ptr().add(w) as i64))
            };
            sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(bits));
        }
        let mask = _mm512_cmplt_epu64_mask(sum, limits);
        if mask != 0 {
            hits |= u64::from(mask) << (group * 8);
            // SAFETY: 8 of the 64 distances start at `group * 8`.
            unsafe {
                _mm256_storeu_si256(distances.as_mut_ptr().add(group * 8).cast(), _mm512_cvtepi64_epi32(sum));
            }
        }
    }
    hits
}
