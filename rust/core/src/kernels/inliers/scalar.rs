//! The algorithm, written once: plain loops over eight lanes that the compiler turns into vectors.
//!
//! `#[inline(always)]` so that each level's file compiles its own copy.

#![allow(clippy::inline_always, reason = "each level must compile its own copy of these loops")]

use super::{Columns, LANES, Sums, largest_square};

type Lanes = [f64; LANES];

/// Groups of eight correspondences: `x`, `y`, `u`, `v`.
#[inline(always)]
fn groups(columns: &Columns) -> impl Iterator<Item = [&Lanes; 4]> {
    let [x, y, u, v] = &columns.values;
    let (x, y) = (x.as_chunks::<LANES>().0, y.as_chunks::<LANES>().0);
    let (u, v) = (u.as_chunks::<LANES>().0, v.as_chunks::<LANES>().0);
    x.iter().zip(y).zip(u).zip(v).map(|(((x, y), u), v)| [x, y, u, v])
}

/// The squared residuals of a group.
#[inline(always)]
fn squared_residuals([x, y, u, v]: [&Lanes; 4], [a, b, c, d, e, f]: [f64; 6]) -> Lanes {
    let mut squares = [0.0; LANES];
    for l in 0..LANES {
        let (p, q) = (a * x[l] + b * y[l] + c - u[l], d * x[l] + e * y[l] + f - v[l]);
        squares[l] = p * p + q * q;
    }
    squares
}

/// The sum of all lanes, in a fixed order.
#[inline(always)]
fn fold(mut lanes: Lanes) -> f64 {
    for half in [4, 2, 1] {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
    }
    lanes[0]
}

/// See [`super::Inliers::fill`].
#[inline(always)]
pub fn fill(correspondences: &[[f32; 4]], columns: &mut Columns) -> [f64; 4] {
    let len = correspondences.len();
    let padded = len.next_multiple_of(LANES);
    columns.len = len;
    for column in &mut columns.values {
        column.resize(padded, 0.0);
    }
    let [x, y, u, v] = &mut columns.values;
    for (j, point) in correspondences.iter().enumerate() {
        let [a, b, c, d] = *point;
        (x[j], y[j], u[j], v[j]) = (f64::from(a), f64::from(b), f64::from(c), f64::from(d));
    }
    // Zeros while they are summed.
    let mut means = [0.0; 4];
    for (mean, column) in means.iter_mut().zip(&mut columns.values) {
        column[len..].fill(0.0);
        let mut sums = [0.0; LANES];
        for group in column.as_chunks::<LANES>().0 {
            for l in 0..LANES {
                sums[l] += group[l];
            }
        }
        column[len..].fill(f64::NAN);
        *mean = fold(sums) / len.max(1) as f64;
    }
    means
}

/// See [`super::Inliers::count`].
#[inline(always)]
pub fn count(columns: &Columns, map: &[f64; 6], inverse: f64) -> (usize, f64) {
    let (mut counts, mut gains) = ([0.0; LANES], [0.0; LANES]);
    for group in groups(columns) {
        let squares = squared_residuals(group, *map);
        for l in 0..LANES {
            let share = 1.0 - squares[l] * inverse;
            counts[l] += if share >= 0.0 { 1.0 } else { 0.0 };
            gains[l] += if share >= 0.0 { share } else { 0.0 };
        }
    }
    (fold(counts) as usize, fold(gains))
}

/// See [`super::Inliers::moments`].
#[inline(always)]
pub fn moments(columns: &Columns, map: &[f64; 6], squared_threshold: f64) -> Option<Sums> {
    let inside = |j: usize| {
        let ([x, y, u, v], [a, b, c, d, e, f]) = (columns.get(j), *map);
        let (p, q) = (a * x + b * y + c - u, d * x + e * y + f - v);
        p * p + q * q <= squared_threshold
    };
    let origin = columns.get((0..columns.len).find(|&j| inside(j))?);
    let first = [origin[2] - origin[0], origin[3] - origin[1]];
    let (mut sums, mut shifts) = ([[0.0; LANES]; 13], [[0.0; LANES]; 2]);
    for group in groups(columns) {
        let squares = squared_residuals(group, *map);
        let [gx, gy, gu, gv] = group;
        for l in 0..LANES {
            let inside = squares[l] <= squared_threshold;
            let only = |value: f64| if inside { value } else { 0.0 };
            let (x, y) = (only(gx[l] - origin[0]), only(gy[l] - origin[1]));
            let (u, v) = (only(gu[l] - origin[2]), only(gv[l] - origin[3]));
            sums[0][l] += only(1.0);
            sums[1][l] += x;
            sums[2][l] += y;
            sums[3][l] += u;
            sums[4][l] += v;
            sums[5][l] += x * x;
            sums[6][l] += x * y;
            sums[7][l] += y * y;
            sums[8][l] += x * u;
            sums[9][l] += y * u;
            sums[10][l] += x * v;
            sums[11][l] += y * v;
            sums[12][l] += u * u + v * v;
            shifts[0][l] += only((gu[l] - gx[l]) - first[0]);
            shifts[1][l] += only((gv[l] - gy[l]) - first[1]);
        }
    }
    let mut moments = [0.0; 12];
    for (moment, lanes) in moments.iter_mut().zip(sums) {
        *moment = fold(lanes);
    }
    let squares = fold(sums[12]);
    Some(Sums { origin, moments, squares, shifts: [fold(shifts[0]), fold(shifts[1])] })
}

/// See [`super::Inliers::mask`].
#[inline(always)]
pub fn mask(columns: &Columns, map: &[f64; 6], threshold: f64, mask: &mut Vec<bool>) -> usize {
    mask.resize(columns.len.next_multiple_of(LANES), false);
    let most = largest_square(threshold);
    let mut counts = [0.0; LANES];
    for (group, mask) in groups(columns).zip(mask.as_chunks_mut::<LANES>().0) {
        let squares = squared_residuals(group, *map);
        for l in 0..LANES {
            let inside = squares[l] <= most;
            mask[l] = inside;
            counts[l] += if inside { 1.0 } else { 0.0 };
        }
    }
    mask.truncate(columns.len);
    fold(counts) as usize
}
