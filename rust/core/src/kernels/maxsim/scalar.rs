//! The reference: one database descriptor after the other.

use super::{LANES, Lane};

/// The largest inner product of the queries of `panel` over `rows`, whole groups of sixteen.
pub fn maxima(panel: &[Lane], dimension: usize, rows: &[f32], out: &mut [f32]) {
    for (group, out) in panel.chunks_exact(dimension).zip(out.chunks_exact_mut(LANES)) {
        for row in rows.chunks_exact(dimension) {
            let mut sums = [0.0_f32; LANES];
            for (lane, &value) in group.iter().zip(row) {
                for (sum, query) in sums.iter_mut().zip(lane.0) {
                    *sum = query.mul_add(value, *sum);
                }
            }
            for (best, sum) in out.iter_mut().zip(sums) {
                // As VMAXPS: of two zeros the later.
                *best = if *best > sum { *best } else { sum };
            }
        }
    }
}
