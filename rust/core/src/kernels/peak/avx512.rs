//! AVX-512 F and VNNI.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;
use std::hint::black_box;

use super::scalar;

/// Independent chains: more than latency times ports.
const CHAINS: usize = 12;

#[target_feature(enable = "avx512f,avx512vnni")]
pub fn fma(steps: u64) -> f32 {
    let (factor, one) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(1.0));
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, one);
        }
    }
    let mut all = sums[0];
    for sum in &sums[1..] {
        all = _mm512_add_ps(all, *sum);
    }
    _mm512_cvtss_f32(all)
}

#[target_feature(enable = "avx512f,avx512vnni")]
pub fn int8(steps: u64) -> i32 {
    let values = _mm512_set1_epi8(black_box(3));
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, values, values);
        }
    }
    let mut all = sums[0];
    for sum in &sums[1..] {
        all = _mm512_add_epi32(all, *sum);
    }
    _mm512_cvtsi512_si32(all)
}

#[target_feature(enable = "avx512f,avx512vnni")]
pub fn read(bytes: &[u8]) -> u64 {
    const VECTORS: usize = 8;
    const WIDTH: usize = 64;
    let mut sums = [_mm512_setzero_si512(); VECTORS];
    let parts = bytes.chunks_exact(VECTORS * WIDTH);
    let ragged = parts.remainder();
    for part in parts {
        for (at, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the part is `VECTORS` registers long.
            let values = unsafe { _mm512_loadu_si512(part.as_ptr().add(at * WIDTH).cast()) };
            *sum = _mm512_xor_si512(*sum, values);
        }
    }
    let mut words = [0_u64; VECTORS * WIDTH / 8];
    for (sum, words) in sums.iter().zip(words.chunks_exact_mut(WIDTH / 8)) {
        // SAFETY: the words are one register long.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), *sum) };
    }
    words.iter().fold(scalar::read(ragged), |all, word| all ^ word)
}
