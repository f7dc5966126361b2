//! The reference: plain Rust, no intrinsics.

use half::f16;

use super::{FEW, Operands, PANEL, TILE, Tile};

/// Lanes of the sums: enough for the compiler to use what the baseline CPU has.
const LANES: usize = 8;

/// Exact conversion: the bits, moved into place, are the value times 2^-112.
pub fn to_f32(value: f16) -> f32 {
    let bits = u32::from(value.to_bits());
    let magnitude = if bits & 0x7c00 == 0x7c00 {
        f32::from_bits(0x7f80_0000 | (bits & 0x03ff) << 13)
    } else {
        f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23)
    };
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

pub fn widen(row: &[f16], out: &mut [f32]) -> f32 {
    let mut squares = [0.0_f32; LANES];
    for (values, places) in row.chunks(LANES).zip(out.chunks_mut(LANES)) {
        for ((value, place), square) in values.iter().zip(places).zip(&mut squares) {
            let x = to_f32(*value);
            *place = x;
            *square += x * x;
        }
    }
    squares.iter().sum()
}

pub fn tile(operands: Operands<'_>, out: &mut Tile) {
    let Operands { rows, stride, panel, norms, limits, narrow } = operands;
    let depth = panel.len() / PANEL;
    let width = if narrow { PANEL / 2 } else { PANEL };
    for i in 0..TILE {
        let row = &rows[i * stride..][..depth];
        let mut sums = [0.0_f32; PANEL];
        for (x, queries) in row.iter().zip(panel.chunks_exact(PANEL)) {
            for (sum, query) in sums.iter_mut().zip(queries) {
                *sum += x * query;
            }
        }
        out.scores[i] = sums;
        out.hits[i] = (0..width)
            .filter(|&j| sums[j] >= limits.threshold[j] - limits.slope[j] * norms[i])
            .fold(0, |hits, j| hits | 1 << j);
    }
}

pub fn few(
    rows: &[f16],
    depth: usize,
    queries: &[f32],
    stride: usize,
    count: usize,
    scores: &mut [[f32; FEW]],
    norms: &mut [f32],
) {
    for ((row, scores), norm) in rows.chunks_exact(depth).zip(scores).zip(norms) {
        let mut squares = [0.0_f32; LANES];
        let mut sums = [[0.0_f32; LANES]; FEW];
        for (block, values) in row.chunks(LANES).enumerate() {
            let mut x = [0.0_f32; LANES];
            for (place, value) in x.iter_mut().zip(values) {
                *place = to_f32(*value);
            }
            for lane in 0..LANES {
                squares[lane] += x[lane] * x[lane];
            }
            for (j, sums) in sums.iter_mut().enumerate().take(count) {
                let query = &queries[j * stride + block * LANES..][..LANES];
                for lane in 0..LANES {
                    sums[lane] += x[lane] * query[lane];
                }
            }
        }
        *norm = squares.iter().sum();
        for j in 0..count {
            scores[j] = sums[j].iter().sum();
        }
    }
}

pub fn dot(row: &[f16], query: &[f64]) -> (f64, f32) {
    let (mut sums, mut squares) = ([0.0_f64; LANES], [0.0_f32; LANES]);
    for (values, queries) in row.chunks(LANES).zip(query.chunks(LANES)) {
        for ((value, query), (sum, square)) in
            values.iter().zip(queries).zip(sums.iter_mut().zip(&mut squares))
        {
            let value = to_f32(*value);
            *sum += f64::from(value) * query;
            *square += value * value;
        }
    }
    (sums.iter().sum(), squares.iter().sum())
}
