//! The reference.

use half::f16;

use super::{Ahead, Rows};
use crate::kernels::dot_f16::to_f32;
use crate::kernels::tiles::{Hit, Limits, PANEL, collect};

pub fn round(values: &[f32], rounded: &mut [u16]) {
    for (place, value) in rounded.iter_mut().zip(values) {
        let bits = value.to_bits();
        // To nearest, ties to even: the largest finite values of float32 would become infinite.
        *place = ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    }
}

pub fn round_halves(values: &[f16], rounded: &mut [u16]) -> f32 {
    let mut square = 0.0;
    for (place, &value) in rounded.chunks_exact_mut(1).zip(values) {
        let value = to_f32(value);
        round(&[value], place);
        square += value * value;
    }
    square
}

fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

fn row_scores(rows: Rows<'_>, row: usize, panel: &[u16]) -> [f32; PANEL] {
    let mut sums = [0.0; PANEL];
    let values = rows.values[row * rows.stride..].chunks_exact(2);
    for (values, queries) in values.zip(panel.chunks_exact(2 * PANEL)) {
        for (sum, queries) in sums.iter_mut().zip(queries.chunks_exact(2)) {
            *sum += widen(values[1]) * widen(queries[1]);
            *sum += widen(values[0]) * widen(queries[0]);
        }
    }
    sums
}

pub fn panel(
    rows: Rows<'_>,
    panel: &[u16],
    narrow: bool,
    limits: &Limits,
    hits: &mut [Hit],
    _: Ahead,
) -> usize {
    let lanes = if narrow { PANEL / 2 } else { PANEL };
    collect(rows.count(), hits, |row| {
        let scores = row_scores(rows, row, panel);
        let passes = |j: usize| scores[j] >= limits.threshold[j] - limits.norm[j] * rows.norms[row];
        (0..lanes).fold(0, |queries, j| queries | u32::from(passes(j)) << j)
    })
}

pub fn scores(rows: Rows<'_>, panel: &[u16], scores: &mut [[f32; PANEL]]) {
    for (row, scores) in scores[..rows.count()].iter_mut().enumerate() {
        *scores = row_scores(rows, row, panel);
    }
}
