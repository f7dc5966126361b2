//! The reference.

use super::{Quantised, Rows, STEP, Subtracted, scale};
use crate::kernels::tiles::{Hit, Limits, PANEL, collect};

/// What is added to the codes of queries to make them unsigned.
pub const OFFSET: i32 = 128;

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

pub fn subtract(values: &mut [f32], centre: &[f32], square: f64) -> Subtracted {
    let mut products = [0.0; STEP];
    for (values, centre) in values.chunks_exact_mut(STEP).zip(centre.chunks_exact(STEP)) {
        for ((value, centre), product) in values.iter_mut().zip(centre).zip(&mut products) {
            *value -= centre;
            *product += *value * centre;
        }
    }
    let product: f64 = products.iter().map(|&product| f64::from(product)).sum();
    let excess = (product / square) as f32;
    let mut squares = [0.0; STEP];
    for (values, centre) in values.chunks_exact_mut(STEP).zip(centre.chunks_exact(STEP)) {
        for ((value, centre), square) in values.iter_mut().zip(centre).zip(&mut squares) {
            *value -= excess * centre;
            *square += *value * *value;
        }
    }
    Subtracted { excess, square: squares.iter().sum() }
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

/// The screened score of a row and a query, and whether it passes the limit of lane `j`.
fn passes(rows: Rows<'_>, i: usize, product: i32, limits: &Limits, j: usize) -> bool {
    let [_, scale, residual, norm, excess] = rows.facts[i];
    let limit = limits.threshold[j] - limits.residual[j] * residual - limits.norm[j] * norm;
    product as f32 * scale >= limit - limits.centre[j] * excess
}

/// The products of a row with the queries of a panel.
fn products(rows: Rows<'_>, i: usize, panel: &[u8]) -> [i32; PANEL] {
    let mut products = [rows.correction(i, OFFSET); PANEL];
    let codes = rows.codes[i * rows.stride..].chunks_exact(4);
    for (codes, queries) in codes.zip(panel.chunks_exact(4 * PANEL)) {
        for (product, queries) in products.iter_mut().zip(queries.chunks_exact(4)) {
            for (code, query) in codes.iter().zip(queries) {
                *product = product.wrapping_add(i32::from(*code) * i32::from(*query));
            }
        }
    }
    products
}

pub fn panel(rows: Rows<'_>, panel: &[u8], narrow: bool, limits: &Limits, hits: &mut [Hit]) -> usize {
    let lanes = if narrow { PANEL / 2 } else { PANEL };
    collect(rows.count(), hits, |i| {
        let products = products(rows, i, panel);
        (0..lanes).fold(0, |queries, j| queries | u32::from(passes(rows, i, products[j], limits, j)) << j)
    })
}

pub fn scores(rows: Rows<'_>, panel: &[u8], centre: &[f32; PANEL], scores: &mut [[f32; PANEL]]) {
    for (i, scores) in scores[..rows.count()].iter_mut().enumerate() {
        let [_, scale, _, _, excess] = rows.facts[i];
        *scores = products(rows, i, panel).map(|product| product as f32 * scale);
        scores.iter_mut().zip(centre).for_each(|(score, centre)| *score += centre * excess);
    }
}

pub fn few(rows: Rows<'_>, queries: &[u8], count: usize, limits: &Limits, hits: &mut [Hit]) -> usize {
    let depth = queries.len() / count;
    collect(rows.count(), hits, |i| {
        (0..count).fold(0, |hits, j| {
            let codes = rows.codes[i * rows.stride..].iter().zip(&queries[j * depth..][..depth]);
            let product = codes.fold(rows.correction(i, OFFSET), |sum, (&code, &query)| {
                sum.wrapping_add(i32::from(code) * i32::from(query))
            });
            hits | u32::from(passes(rows, i, product, limits, j)) << j
        })
    })
}
