//! AVX2: bits counted by looking up nibbles, 4 codes a register.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;

use super::{BLOCK, Distances};

/// Words whose byte counts fit in a byte: 31 * 8 < 256.
const FITS: usize = 31;

#[target_feature(enable = "avx2")]
pub fn below(query: &[u64], planes: &[u64], limit: u32, distances: &mut Distances) -> u64 {
    let table = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    let nibble = _mm256_set1_epi8(0x0f);
    let limits = _mm256_set1_epi64x(i64::from(limit));
    let mut hits = 0;
    for group in 0..BLOCK / 4 {
        let mut sum = _mm256_setzero_si256();
        for start in (0..query.len()).step_by(FITS) {
            let mut counts = _mm256_setzero_si256();
            for (w, &word) in query.iter().enumerate().skip(start).take(FITS) {
                // SAFETY: the wrapper checked that there is a plane of 64 codes for each word of the query.
                let codes = unsafe { _mm256_loadu_si256(planes.as_ptr().add(w * BLOCK + group * 4).cast()) };
                let bits = _mm256_xor_si256(codes, _mm256_set1_epi64x(word as i64));
                let low = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, nibble));
                let high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(bits), nibble));
                counts = _mm256_add_epi8(counts, _mm256_add_epi8(low, high));
            }
            sum = _mm256_add_epi64(sum, _mm256_sad_epu8(counts, _mm256_setzero_si256()));
        }
        let mask = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(limits, sum)));
        if mask != 0 {
            hits |= (mask as u64) << (group * 4);
            let mut lanes = [0_u64; 4];
            // SAFETY: `lanes` is as long as the register.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
            for (distance, lane) in distances[group * 4..].iter_mut().zip(lanes) {
                *distance = lane as u32;
            }
        }
    }
    hits
}
