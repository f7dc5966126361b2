//! The algorithm, written once: plain loops over sixteen lanes that the compiler turns into vectors.
//!
//! `#[inline(always)]` so that each level's file compiles its own copy.

#![allow(clippy::inline_always, reason = "each level must compile its own copy of these loops")]

use super::{LANES, Map, Moments, Points};

pub type Lanes = [f32; LANES];

/// Sixteen weights; not a number counts as no agreement.
#[inline(always)]
fn weights(x: &Lanes, y: &Lanes, u: &Lanes, v: &Lanes, map: &Map, inverse: f32) -> Lanes {
    let mut weights = [0.0; LANES];
    for l in 0..LANES {
        let p = (map[0] * x[l] + map[1] * y[l]) + (map[2] - u[l]);
        let q = (map[3] * x[l] + map[4] * y[l]) + (map[5] - v[l]);
        let weight = 1.0 - (p * p + q * q) * inverse;
        weights[l] = if weight > 0.0 { weight } else { 0.0 };
    }
    weights
}

/// Sums the lanes pairwise: always the same order.
///
/// Never inlined: the compiler would otherwise cut the accumulators of the loops into the pieces it adds here,
/// and shuffle at every step to keep them.
#[inline(never)]
fn fold(lanes: &Lanes) -> f32 {
    let mut lanes = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The columns in steps of sixteen.
#[inline(always)]
fn steps(points: &Points) -> impl Iterator<Item = (&Lanes, &Lanes, &Lanes, &Lanes)> {
    let [x, y, u, v] =
        [&points.x, &points.y, &points.u, &points.v].map(|column| column.as_chunks::<LANES>().0);
    x.iter().zip(y).zip(u).zip(v).map(|(((x, y), u), v)| (x, y, u, v))
}

/// See [`super::Consensus::gains`].
#[inline(always)]
pub fn gains(points: &Points, maps: &[Map], squared_radius: f32) -> Lanes {
    let inverse = 1.0 / squared_radius;
    // Row l holds lane l of every map's partial sums: the fold then runs over maps side by side.
    let mut sums = [[0.0; LANES]; LANES];
    for (m, map) in maps.iter().enumerate() {
        let mut sum = [0.0; LANES];
        for (x, y, u, v) in steps(points) {
            let w = weights(x, y, u, v, map, inverse);
            for l in 0..LANES {
                sum[l] += w[l];
            }
        }
        for l in 0..LANES {
            sums[l][m] = sum[l];
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            let upper = sums[l + half];
            for (sum, other) in sums[l].iter_mut().zip(&upper) {
                *sum += other;
            }
        }
        half /= 2;
    }
    sums[0]
}

/// See [`super::Consensus::moments`].
#[inline(always)]
pub fn moments(points: &Points, map: &Map, squared_radius: f32) -> Moments {
    let inverse = 1.0 / squared_radius;
    let mut sums = [[0.0_f32; LANES]; 12];
    for (x, y, u, v) in steps(points) {
        let w = weights(x, y, u, v, map, inverse);
        for l in 0..LANES {
            let (wx, wy) = (w[l] * x[l], w[l] * y[l]);
            sums[0][l] += w[l];
            sums[1][l] += wx;
            sums[2][l] += wy;
            sums[3][l] += w[l] * u[l];
            sums[4][l] += w[l] * v[l];
            sums[5][l] += wx * x[l];
            sums[6][l] += wx * y[l];
            sums[7][l] += wy * y[l];
            sums[8][l] += wx * u[l];
            sums[9][l] += wy * u[l];
            sums[10][l] += wx * v[l];
            sums[11][l] += wy * v[l];
        }
    }
    let mut totals = [0.0_f64; 12];
    for (total, sum) in totals.iter_mut().zip(&sums) {
        *total = f64::from(fold(sum));
    }
    let [w, x, y, u, v, xx, xy, yy, xu, yu, xv, yv] = totals;
    Moments { w, x, y, u, v, xx, xy, yy, xu, yu, xv, yv }
}

/// See [`super::Consensus::near`].
#[inline(always)]
pub fn near(points: &Points, u0: f32, v0: f32, squared_radius: f32) -> u32 {
    let mut counts = [0_u32; LANES];
    for (_, _, u, v) in steps(points) {
        for l in 0..LANES {
            let (p, q) = (u[l] - u0, v[l] - v0);
            counts[l] += u32::from(p * p + q * q <= squared_radius);
        }
    }
    counts.iter().sum()
}
