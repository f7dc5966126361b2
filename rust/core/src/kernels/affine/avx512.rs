//! AVX-512: 16 lanes, 24 accumulators a tile.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;

use super::{Operands, PANEL, TILE};

#[target_feature(enable = "avx512f")]
pub fn tile(operands: Operands<'_>, out: &mut [f32], out_stride: usize) {
    let Operands { rows, stride, panel, bias } = operands;
    let depth = panel.len() / PANEL;
    // SAFETY: the bias has 32 lanes.
    let start = unsafe { [_mm512_loadu_ps(bias.as_ptr()), _mm512_loadu_ps(bias.as_ptr().add(16))] };
    let mut sums = [start; TILE];
    let (rows, panel) = (rows.as_ptr(), panel.as_ptr());
    for at in 0..depth {
        // SAFETY: the panel has 32 values at each of the `depth` positions.
        let weights =
            unsafe { [_mm512_loadu_ps(panel.add(at * PANEL)), _mm512_loadu_ps(panel.add(at * PANEL + 16))] };
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the wrapper checked that there are 12 rows of `depth` values, `stride` apart.
            let x = _mm512_set1_ps(unsafe { *rows.add(i * stride + at) });
            sums[0] = _mm512_fmadd_ps(x, weights[0], sums[0]);
            sums[1] = _mm512_fmadd_ps(x, weights[1], sums[1]);
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let places = &mut out[i * out_stride..][..PANEL];
        // SAFETY: there are 32 places.
        unsafe {
            _mm512_storeu_ps(places.as_mut_ptr(), sums[0]);
            _mm512_storeu_ps(places.as_mut_ptr().add(16), sums[1]);
        }
    }
}
