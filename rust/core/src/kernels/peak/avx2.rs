//! AVX2 and FMA.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;
use std::hint::black_box;

use super::scalar;

/// Independent chains: more than latency times ports.
const CHAINS: usize = 12;

#[target_feature(enable = "avx2,fma")]
pub fn fma(steps: u64) -> f32 {
    let (factor, one) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(1.0));
    let mut sums = [_mm256_setzero_ps(); CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, one);
        }
    }
    let mut all = sums[0];
    for sum in &sums[1..] {
        all = _mm256_add_ps(all, *sum);
    }
    _mm256_cvtss_f32(all)
}

#[target_feature(enable = "avx2,fma")]
pub fn int8(steps: u64) -> i32 {
    // The widening product is the fastest AVX2 has for int8 with sums in int32.
    let (values, ones) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi16(1));
    let mut sums = [_mm256_setzero_si256(); CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            let pairs = _mm256_maddubs_epi16(values, _mm256_xor_si256(values, *sum));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    let mut all = sums[0];
    for sum in &sums[1..] {
        all = _mm256_add_epi32(all, *sum);
    }
    _mm256_extract_epi32::<0>(all)
}

#[target_feature(enable = "avx2,fma")]
pub fn read(bytes: &[u8]) -> u64 {
    const VECTORS: usize = 8;
    const WIDTH: usize = 32;
    let mut sums = [_mm256_setzero_si256(); VECTORS];
    let parts = bytes.chunks_exact(VECTORS * WIDTH);
    let ragged = parts.remainder();
    for part in parts {
        for (at, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the part is `VECTORS` registers long.
            let values = unsafe { _mm256_loadu_si256(part.as_ptr().add(at * WIDTH).cast()) };
            *sum = _mm256_xor_si256(*sum, values);
        }
    }
    let mut words = [0_u64; VECTORS * WIDTH / 8];
    for (sum, words) in sums.iter().zip(words.chunks_exact_mut(WIDTH / 8)) {
        // SAFETY: the words are one register long.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), *sum) };
    }
    words.iter().fold(scalar::read(ragged), |all, word| all ^ word)
}
