//! AVX2: 4 lanes, four passes with 12 accumulators.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]
#![expect(clippy::needless_range_loop, reason = "the index is a register, the loop is unrolled")]

use core::arch::x86_64::*;

use super::{LANES, Operands, Sums, TILE, plain};

/// Queries in a pass, and registers of 4 rows.
const QUERIES: usize = 3;
const ROWS: usize = LANES / 4;

#[target_feature(enable = "avx2,fma")]
pub fn tile(operands: Operands<'_>, out: &mut Sums) {
    let Operands { queries, stride, panel } = operands;
    let depth = panel.len() / LANES;
    for first in (0..TILE).step_by(QUERIES) {
        let mut sums = [[_mm256_setzero_pd(); ROWS]; QUERIES];
        for at in 0..depth {
            for i in 0..QUERIES {
                // SAFETY: the wrapper checked that there are 12 queries of `depth` values, `stride` apart.
                let value = _mm256_set1_pd(unsafe { *queries.as_ptr().add((first + i) * stride + at) });
                for j in 0..ROWS {
                    // SAFETY: the panel has 16 values at each of the `depth` positions.
                    let rows = unsafe { _mm256_loadu_pd(panel.as_ptr().add(at * LANES + 4 * j)) };
                    sums[i][j] = _mm256_fmadd_pd(value, rows, sums[i][j]);
                }
            }
        }
        for i in 0..QUERIES {
            for j in 0..ROWS {
                // SAFETY: there is room for 16 sums a query.
                unsafe { _mm256_storeu_pd(out.0[first + i].as_mut_ptr().add(4 * j), sums[i][j]) };
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub fn peak(values: &[f32]) -> f32 {
    plain::peak(values)
}

#[target_feature(enable = "avx2,fma")]
pub fn scale(values: &[f32], factor: f64, scaled: &mut [f32]) -> f64 {
    plain::scale(values, factor, scaled)
}

#[target_feature(enable = "avx2,fma")]
pub fn widen(values: &[f32], widened: &mut [f64]) -> f64 {
    plain::widen(values, widened)
}

#[target_feature(enable = "avx2,fma")]
pub fn round(sums: &[f64; LANES], errors: &[f64; LANES], factor: f64, ends: &mut [[f32; LANES]; 2]) {
    plain::round(sums, errors, factor, ends);
}
