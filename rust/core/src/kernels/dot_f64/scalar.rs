//! The reference.

use super::{LANES, Operands, Sums};

pub fn tile(operands: Operands<'_>, sums: &mut Sums) {
    let Operands { queries, stride, panel } = operands;
    for (i, sums) in sums.0.iter_mut().enumerate() {
        *sums = [0.0; LANES];
        for (value, rows) in queries[i * stride..].iter().zip(panel.chunks_exact(LANES)) {
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum += value * row;
            }
        }
    }
}
