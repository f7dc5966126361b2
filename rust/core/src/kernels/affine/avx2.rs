//! AVX2 with FMA: 8 lanes, 12 accumulators a pass, four passes a tile.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;

use super::{Operands, PANEL, TILE};

#[target_feature(enable = "avx2,fma")]
pub fn tile(operands: Operands<'_>, out: &mut [f32], out_stride: usize) {
    for column in [0, 16] {
        for first in (0..TILE).step_by(6) {
            six_by_sixteen(operands, first, column, out, out_stride);
        }
    }
}

/// Rows `first..first + 6`, outputs `column..column + 16`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn six_by_sixteen(operands: Operands<'_>, first: usize, column: usize, out: &mut [f32], out_stride: usize) {
    let Operands { rows, stride, panel, bias } = operands;
    let depth = panel.len() / PANEL;
    // SAFETY: the bias has 32 lanes, `column` is 0 or 16.
    let start = unsafe {
        [_mm256_loadu_ps(bias.as_ptr().add(column)), _mm256_loadu_ps(bias.as_ptr().add(column + 8))]
    };
    let mut sums = [start; 6];
    let (rows, panel) = (rows[first * stride..].as_ptr(), panel[column.min(panel.len())..].as_ptr());
    for at in 0..depth {
        // SAFETY: the panel has 32 values at each of the `depth` positions.
        let weights =
            unsafe { [_mm256_loadu_ps(panel.add(at * PANEL)), _mm256_loadu_ps(panel.add(at * PANEL + 8))] };
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the wrapper checked that there are 12 rows of `depth` values, `stride` apart.
            let x = unsafe { _mm256_broadcast_ss(&*rows.add(i * stride + at)) };
            sums[0] = _mm256_fmadd_ps(x, weights[0], sums[0]);
            sums[1] = _mm256_fmadd_ps(x, weights[1], sums[1]);
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let places = &mut out[(first + i) * out_stride + column..][..16];
        // SAFETY: there are 16 places.
        unsafe {
            _mm256_storeu_ps(places.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(places.as_mut_ptr().add(8), sums[1]);
        }
    }
}
