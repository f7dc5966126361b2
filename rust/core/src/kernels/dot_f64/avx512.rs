//! AVX-512: 8 lanes, 24 accumulators.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]
#![expect(clippy::needless_range_loop, reason = "the index is a register, the loop is unrolled")]

use core::arch::x86_64::*;

use super::{LANES, Operands, Sums, TILE, plain};

#[target_feature(enable = "avx512f")]
pub fn tile(operands: Operands<'_>, out: &mut Sums) {
    let Operands { queries, stride, panel } = operands;
    let depth = panel.len() / LANES;
    let (queries, panel) = (queries.as_ptr(), panel.as_ptr());
    let mut sums = [[_mm512_setzero_pd(); 2]; TILE];
    for at in 0..depth {
        // SAFETY: the panel has 16 values at each of the `depth` positions.
        let rows =
            unsafe { [_mm512_loadu_pd(panel.add(at * LANES)), _mm512_loadu_pd(panel.add(at * LANES + 8))] };
        for i in 0..TILE {
            // SAFETY: the wrapper checked that there are 12 queries of `depth` values, `stride` apart.
            let value = _mm512_set1_pd(unsafe { *queries.add(i * stride + at) });
            sums[i] =
                [_mm512_fmadd_pd(value, rows[0], sums[i][0]), _mm512_fmadd_pd(value, rows[1], sums[i][1])];
        }
    }
    for i in 0..TILE {
        // SAFETY: there is room for 16 sums a query.
        unsafe {
            _mm512_storeu_pd(out.0[i].as_mut_ptr(), sums[i][0]);
            _mm512_storeu_pd(out.0[i].as_mut_ptr().add(8), sums[i][1]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub fn peak(values: &[f32]) -> f32 {
    plain::peak(values)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub fn scale(values: &[f32], factor: f64, scaled: &mut [f32]) -> f64 {
    plain::scale(values, factor, scaled)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub fn widen(values: &[f32], widened: &mut [f64]) -> f64 {
    plain::widen(values, widened)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub fn round(sums: &[f64; LANES], errors: &[f64; LANES], factor: f64, ends: &mut [[f32; LANES]; 2]) {
    plain::round(sums, errors, factor, ends);
}
