//! The reference.

use super::{Limits, PANEL, Quantised, Rows, TILE, Tile, scale};

pub fn rotate(values: &mut [f32], signs: &[f32], block: usize) {
    for (value, sign) in values.iter_mut().zip(signs) {
        *value *= sign;
    }
    for values in values.chunks_exact_mut(block) {
        let mut half = 1;
        while half < block {
            for pair in values.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
    }
}

pub fn quantise(values: &[f32], limit: f32, codes: &mut [i8]) -> Quantised {
    let peak = values.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
    let Some(scale) = scale(peak, limit) else {
        codes.fill(0);
        return Quantised { scale: 0.0, square: values.iter().map(|x| x * x).sum(), sum: 0 };
    };
    let inverse = 1.0 / scale;
    let (mut square, mut sum) = (0.0, 0);
    for (place, &value) in codes.iter_mut().zip(values) {
        let code = (value * inverse).round_ties_even();
        let rest = value - code * scale;
        *place = code as i8;
        square += rest * rest;
        sum += code as i32;
    }
    Quantised { scale, square, sum }
}

pub fn tile(rows: Rows<'_>, panel: &[u8], limits: &Limits, out: &mut Tile) {
    for i in 0..TILE {
        let mut products = [rows.sums[i].wrapping_mul(-128); PANEL];
        let codes = rows.codes[i * rows.stride..].chunks_exact(4);
        for (codes, queries) in codes.zip(panel.chunks_exact(4 * PANEL)) {
            for (product, queries) in products.iter_mut().zip(queries.chunks_exact(4)) {
                for (code, query) in codes.iter().zip(queries) {
                    *product = product.wrapping_add(i32::from(*code) * i32::from(*query));
                }
            }
        }
        out.hits[i] = 0;
        for (j, &product) in products.iter().enumerate() {
            let score = product as f32 * rows.scales[i];
            let slack = limits.threshold[j] - limits.residual[j] * rows.residuals[i];
            out.hits[i] |= u32::from(score >= slack - limits.norm[j] * rows.norms[i]) << j;
        }
        out.products[i] = products;
    }
}
