//! The reference: plain Rust, no intrinsics.

use super::{Operands, PANEL, TILE};

pub fn tile(operands: Operands<'_>, out: &mut [f32], out_stride: usize) {
    let Operands { rows, stride, panel, bias } = operands;
    let depth = panel.len() / PANEL;
    for i in 0..TILE {
        let mut sums = *bias;
        for (x, weights) in rows[i * stride..][..depth].iter().zip(panel.chunks_exact(PANEL)) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = x.mul_add(*weight, *sum);
            }
        }
        out[i * out_stride..][..PANEL].copy_from_slice(&sums);
    }
}
