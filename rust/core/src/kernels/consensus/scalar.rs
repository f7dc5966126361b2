//! The algorithm, written once: plain loops over sixteen lanes that the compiler turns into vectors.
//!
//! `#[inline(always)]` so that each level's file compiles its own copy.

#![allow(clippy::inline_always, reason = "each level must compile its own copy of these loops")]
#![allow(clippy::needless_bitwise_bool, reason = "no branches within lanes")]

use std::ops::Range;

use super::scan::{self, LaneByLane};
use super::{FARTHEST, Fit, GAIN_SHARE, LANES, Lanes, Maps, Offer, Points, Scaling, Scoring, Source, repeat};

/// Sixteen lanes of a column from `start`.
#[inline(always)]
fn lanes(column: &[f32], start: usize) -> &Lanes {
    column[start..].first_chunk().expect("columns are long enough for every start")
}

/// Sixteen correspondences from `start`: `x`, `y`, `u`, `v`.
#[inline(always)]
fn sample(points: &Points, start: usize) -> [&Lanes; 4] {
    [lanes(&points.x, start), lanes(&points.y, start), lanes(&points.u, start), lanes(&points.v, start)]
}

/// The weights of one correspondence for sixteen maps; not a number counts as no agreement.
#[inline(always)]
fn weights(maps: &Maps, [x, y, u, v]: [f32; 4], inverse: f32) -> Lanes {
    let [a, b, c, d, e, f] = maps;
    let mut weights = [0.0; LANES];
    for l in 0..LANES {
        let p = a[l].mul_add(x, b[l].mul_add(y, c[l])) - u;
        let q = d[l].mul_add(x, e[l].mul_add(y, f[l])) - v;
        let weight = p.mul_add(p, q * q).mul_add(-inverse, 1.0);
        weights[l] = if weight > 0.0 { weight } else { 0.0 };
    }
    weights
}

/// See [`super::Consensus::fill`].
#[inline(always)]
pub fn fill(points: &mut Points, correspondences: &[[f32; 4]], order: &[u32], scaling: &Scaling) {
    let len = order.len();
    points.len = len;
    let Scaling { centre, inverse } = *scaling;
    let mut columns = [&mut points.x, &mut points.y, &mut points.u, &mut points.v];
    for column in &mut columns {
        column.resize(len.next_multiple_of(LANES), 0.0);
    }
    // Sixteen rows at a time, so that the columns are written in whole registers.
    for (group, order) in order.chunks(LANES).enumerate() {
        let mut rows = [[0.0_f32; 4]; LANES];
        for (row, &index) in rows.iter_mut().zip(order) {
            let point = correspondences[index as usize];
            for i in 0..4 {
                row[i] = ((f64::from(point[i]) - centre[i]) * inverse) as f32;
            }
        }
        for (i, column) in columns.iter_mut().enumerate() {
            let out = &mut column[group * LANES..][..LANES];
            for l in 0..LANES {
                out[l] = rows[l][i].clamp(-FARTHEST, FARTHEST);
            }
        }
    }
    for column in columns {
        repeat(column, len);
    }
    points.p.clear();
    points.q.clear();
}

/// See [`super::Consensus::extent`].
#[inline(always)]
pub fn extent(points: &Points) -> [f32; 2] {
    let mut extent = [0.0; 2];
    for (extent, column) in extent.iter_mut().zip([&points.u, &points.v]) {
        let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        // Lanes beyond the last correspondence hold the first ones again.
        for start in (0..points.len).step_by(LANES) {
            let values = lanes(column, start);
            for l in 0..LANES {
                low[l] = if values[l] < low[l] { values[l] } else { low[l] };
                high[l] = if values[l] > high[l] { values[l] } else { high[l] };
            }
        }
        let low = low.into_iter().fold(f32::INFINITY, f32::min);
        let high = high.into_iter().fold(f32::NEG_INFINITY, f32::max);
        *extent = (high - low).max(0.0);
    }
    extent
}

/// See [`super::Consensus::scan`].
pub fn scan(
    points: &Points,
    source: &Source<'_>,
    batches: Range<usize>,
    scoring: &Scoring,
    bar: f32,
    offer: &mut Offer<'_>,
) {
    scan::scan::<LaneByLane>(points, source, batches, scoring, bar, offer);
}

/// The sum of weights of each map over the first `most` correspondences.
///
/// Summed times the squared radius, which is one operation less a correspondence.
#[inline(always)]
pub fn gains(points: &Points, most: usize, maps: &Maps, squared_radius: f32) -> Lanes {
    let [a, b, c, d, e, f] = maps;
    let mut sum = [0.0; LANES];
    for [x, y, u, v] in points.first(most) {
        for l in 0..LANES {
            let p = a[l].mul_add(x, b[l].mul_add(y, c[l])) - u;
            let q = d[l].mul_add(x, e[l].mul_add(y, f[l])) - v;
            let gain = (-q).mul_add(q, (-p).mul_add(p, squared_radius));
            sum[l] += if gain > 0.0 { gain } else { 0.0 };
        }
    }
    let inverse = 1.0 / squared_radius;
    sum.map(|sum| sum * inverse)
}

/// See [`super::Consensus::supports`].
#[inline(always)]
pub fn supports(points: &Points, maps: &Maps) -> Lanes {
    let mut sum = [0.0; LANES];
    for point in points.first(points.len) {
        let weights = weights(maps, point, 1.0);
        for l in 0..LANES {
            let whole = if weights[l] > 0.0 { 1.0 } else { 0.0 };
            sum[l] += weights[l].mul_add(GAIN_SHARE, whole);
        }
    }
    sum
}

/// See [`super::Consensus::refine`].
#[inline(always)]
pub fn refine(points: &Points, most: usize, maps: &mut Maps, squared_radius: f32, fit: &Fit) {
    let sums = moments(points, most, maps, squared_radius);
    solve(&sums, maps, fit);
}

/// Replaces maps by the least squares solutions of these moments.
#[inline(always)]
fn solve(sums: &[Lanes; 12], maps: &mut Maps, fit: &Fit) {
    let [w, x, y, u, v, xx, xy, yy, xu, yu, xv, yv] = sums;
    for l in 0..LANES {
        let inverse = 1.0 / w[l];
        let (mx, my, mu, mv) = (x[l] * inverse, y[l] * inverse, u[l] * inverse, v[l] * inverse);
        let (cxx, cxy, cyy) = (xx[l] - x[l] * mx, xy[l] - x[l] * my, yy[l] - y[l] * my);
        let (cxu, cyu) = (xu[l] - x[l] * mu, yu[l] - y[l] * mu);
        let (cxv, cyv) = (xv[l] - x[l] * mv, yv[l] - y[l] * mv);
        let (trace, total) = (cxx + cyy, xx[l] + yy[l]);
        // Below this a difference is rounding: the sums are float32.
        let spread_out = trace > 1e-5 * total;

        let p = (cxu + cyv) / trace;
        let q = (cxv - cyu) / trace;
        let square = p * p + q * q;
        let similar = fit.similarity & (w[l] >= 1.5) & spread_out;
        let similar = similar & (square <= fit.area) & (square * fit.area >= 1.0);

        let det = cxx * cyy - cxy * cxy;
        let inverse = 1.0 / det;
        let (a, b) = ((cxu * cyy - cyu * cxy) * inverse, (cyu * cxx - cxu * cxy) * inverse);
        let (d, e) = ((cxv * cyy - cyv * cxy) * inverse, (cyv * cxx - cxv * cxy) * inverse);
        let magnified = a * e - b * d;
        let squares = (a * a + b * b) + (d * d + e * e);
        // A thinner set of points does not determine what happens across it.
        let affine = fit.affine & (w[l] >= 3.5) & spread_out & (det > 1e-3 * trace * trace);
        let affine = affine & (magnified <= fit.area) & (magnified * fit.area >= 1.0);
        let affine = affine & (squares <= fit.spread * magnified);

        let pick = |affine_part: f32, similar_part: f32, neither: f32| {
            if affine {
                affine_part
            } else if similar {
                similar_part
            } else {
                neither
            }
        };
        let (a, b) = (pick(a, p, 1.0), pick(b, -q, 0.0));
        let (d, e) = (pick(d, q, 0.0), pick(e, p, 1.0));
        let fitted = [a, b, mu - (a * mx + b * my), d, e, mv - (d * mx + e * my)];
        let better = fitted.iter().fold(w[l] > 0.0, |all, value| all & value.is_finite());
        for (map, value) in maps.iter_mut().zip(fitted) {
            map[l] = if better { value } else { map[l] };
        }
    }
}

/// The weighted sums of `w`, `wx`, `wy`, `wu`, `wv`, `wxx`, `wxy`, `wyy`, `wxu`, `wyu`, `wxv`, `wyv` for each map.
#[inline(always)]
fn moments(points: &Points, most: usize, maps: &Maps, squared_radius: f32) -> [Lanes; 12] {
    let inverse = 1.0 / squared_radius;
    let mut sums = [[0.0; LANES]; 12];
    for point in points.first(most) {
        let w = weights(maps, point, inverse);
        let [x, y, u, v] = point;
        for l in 0..LANES {
            let (wx, wy) = (w[l] * x, w[l] * y);
            sums[0][l] += w[l];
            sums[1][l] += wx;
            sums[2][l] += wy;
            sums[3][l] = w[l].mul_add(u, sums[3][l]);
            sums[4][l] = w[l].mul_add(v, sums[4][l]);
            sums[5][l] = wx.mul_add(x, sums[5][l]);
            sums[6][l] = wx.mul_add(y, sums[6][l]);
            sums[7][l] = wy.mul_add(y, sums[7][l]);
            sums[8][l] = wx.mul_add(u, sums[8][l]);
            sums[9][l] = wy.mul_add(u, sums[9][l]);
            sums[10][l] = wx.mul_add(v, sums[10][l]);
            sums[11][l] = wy.mul_add(v, sums[11][l]);
        }
    }
    sums
}

/// See [`super::Consensus::polish`].
#[inline(always)]
pub fn polish(points: &Points, map: &mut [f32; 6], steps: &[Scoring], fit: &Fit) -> f32 {
    let mut sums = [[0.0; LANES]; 12];
    for step in steps {
        for (sum, value) in sums.iter_mut().zip(moments_of_one(points, map, step)) {
            sum[0] = value;
        }
        let mut maps = [[0.0; LANES]; 6];
        for (lanes, value) in maps.iter_mut().zip(*map) {
            *lanes = [value; LANES];
        }
        solve(&sums, &mut maps, fit);
        for (value, lanes) in map.iter_mut().zip(maps) {
            *value = lanes[0];
        }
    }
    let mut support = [0.0; LANES];
    for start in (0..points.len).step_by(LANES) {
        let weights = weights_of_one(points, start, points.len - start, map, 1.0);
        for l in 0..LANES {
            let whole = if weights[l] > 0.0 { 1.0 } else { 0.0 };
            support[l] += weights[l].mul_add(GAIN_SHARE, whole);
        }
    }
    fold(&support)
}

/// The weights of sixteen correspondences for one map, of which `left` count; 0 beyond.
#[inline(always)]
fn weights_of_one(points: &Points, start: usize, left: usize, map: &[f32; 6], inverse: f32) -> Lanes {
    let (x, y) = (lanes(&points.x, start), lanes(&points.y, start));
    let (u, v) = (lanes(&points.u, start), lanes(&points.v, start));
    let [a, b, c, d, e, f] = *map;
    let mut weights = [0.0; LANES];
    for l in 0..LANES {
        let p = a.mul_add(x[l], b.mul_add(y[l], c)) - u[l];
        let q = d.mul_add(x[l], e.mul_add(y[l], f)) - v[l];
        let weight = p.mul_add(p, q * q).mul_add(-inverse, 1.0);
        weights[l] = if (weight > 0.0) & (l < left) { weight } else { 0.0 };
    }
    weights
}

/// [`moments`] of one map.
#[inline(always)]
fn moments_of_one(points: &Points, map: &[f32; 6], step: &Scoring) -> [f32; 12] {
    let inverse = 1.0 / step.squared_radius;
    let most = step.most.min(points.len);
    let mut sums = [[0.0; LANES]; 12];
    for start in (0..most).step_by(LANES) {
        let w = weights_of_one(points, start, most - start, map, inverse);
        let (x, y) = (lanes(&points.x, start), lanes(&points.y, start));
        let (u, v) = (lanes(&points.u, start), lanes(&points.v, start));
        for l in 0..LANES {
            let (wx, wy) = (w[l] * x[l], w[l] * y[l]);
            sums[0][l] += w[l];
            sums[1][l] += wx;
            sums[2][l] += wy;
            sums[3][l] = w[l].mul_add(u[l], sums[3][l]);
            sums[4][l] = w[l].mul_add(v[l], sums[4][l]);
            sums[5][l] = wx.mul_add(x[l], sums[5][l]);
            sums[6][l] = wx.mul_add(y[l], sums[6][l]);
            sums[7][l] = wy.mul_add(y[l], sums[7][l]);
            sums[8][l] = wx.mul_add(u[l], sums[8][l]);
            sums[9][l] = wy.mul_add(u[l], sums[9][l]);
            sums[10][l] = wx.mul_add(v[l], sums[10][l]);
            sums[11][l] = wy.mul_add(v[l], sums[11][l]);
        }
    }
    fold_all(&sums)
}

/// [`fold`] of each.
///
/// A function of its own: within one, the compiler takes the loop that made the sums apart as well.
#[inline(never)]
fn fold_all(sums: &[Lanes; 12]) -> [f32; 12] {
    let mut folded = [0.0; 12];
    for (sum, lanes) in folded.iter_mut().zip(sums) {
        *sum = fold(lanes);
    }
    folded
}

/// The sum of all lanes, in a fixed order.
#[inline(always)]
fn fold(lanes: &Lanes) -> f32 {
    // Step by step, so that they stay in registers.
    let eight: [f32; 8] = std::array::from_fn(|l| lanes[l] + lanes[l + 8]);
    let four: [f32; 4] = std::array::from_fn(|l| eight[l] + eight[l + 4]);
    let two = [four[0] + four[2], four[1] + four[3]];
    two[0] + two[1]
}

/// The similarities through correspondences `start + l` and `start + l + offset` for lanes `l`, counted modulo
/// their number; not a number where their area magnification is not from `1 / area` to `area`.
///
/// `start` and `offset` are below the number of correspondences.
#[inline(always)]
pub fn pairs(points: &Points, start: usize, offset: usize, area: f32) -> Maps {
    let [x, y, u, v] = sample(points, start);
    let [x1, y1, u1, v1] = sample(points, start + offset);
    let mut maps = [[0.0; LANES]; 6];
    for l in 0..LANES {
        let (dx, dy) = (x1[l] - x[l], y1[l] - y[l]);
        let (du, dv) = (u1[l] - u[l], v1[l] - v[l]);
        let inverse = 1.0 / dx.mul_add(dx, dy * dy);
        let p = dx.mul_add(du, dy * dv) * inverse;
        let q = dx.mul_add(dv, -(dy * du)) * inverse;
        let det = p.mul_add(p, q * q);
        let believed = det <= area && det * area >= 1.0;
        let p = if believed { p } else { f32::NAN };
        maps[0][l] = p;
        maps[1][l] = -q;
        maps[2][l] = u[l] - p.mul_add(x[l], -(q * y[l]));
        maps[3][l] = q;
        maps[4][l] = p;
        maps[5][l] = v[l] - q.mul_add(x[l], p * y[l]);
    }
    maps
}

/// The affine maps through correspondences `start + l` and those `offsets` further; not a number where [`pairs`]
/// says so, and where the squares of the linear part sum to more than `spread` times its determinant.
#[inline(always)]
pub fn triples(points: &Points, start: usize, offsets: [usize; 2], area: f32, spread: f32) -> Maps {
    let [x, y, u, v] = sample(points, start);
    let [x1, y1, u1, v1] = sample(points, start + offsets[0]);
    let [x2, y2, u2, v2] = sample(points, start + offsets[1]);
    let mut maps = [[0.0; LANES]; 6];
    for l in 0..LANES {
        let (dx1, dy1, du1, dv1) = (x1[l] - x[l], y1[l] - y[l], u1[l] - u[l], v1[l] - v[l]);
        let (dx2, dy2, du2, dv2) = (x2[l] - x[l], y2[l] - y[l], u2[l] - u[l], v2[l] - v[l]);
        let inverse = 1.0 / dx1.mul_add(dy2, -(dx2 * dy1));
        let a = du1.mul_add(dy2, -(du2 * dy1)) * inverse;
        let b = du2.mul_add(dx1, -(du1 * dx2)) * inverse;
        let d = dv1.mul_add(dy2, -(dv2 * dy1)) * inverse;
        let e = dv2.mul_add(dx1, -(dv1 * dx2)) * inverse;
        let det = a.mul_add(e, -(b * d));
        let squares = a.mul_add(a, b * b) + d.mul_add(d, e * e);
        let believed = det <= area && det * area >= 1.0 && squares <= spread * det;
        let a = if believed { a } else { f32::NAN };
        maps[0][l] = a;
        maps[1][l] = b;
        maps[2][l] = u[l] - a.mul_add(x[l], b * y[l]);
        maps[3][l] = d;
        maps[4][l] = e;
        maps[5][l] = v[l] - d.mul_add(x[l], e * y[l]);
    }
    maps
}

/// The similarities that the keypoints of correspondences `start + l` suggest.
#[inline(always)]
pub fn keypoints(points: &Points, start: usize) -> Maps {
    let [x, y, u, v] = sample(points, start);
    let [p, q] = [lanes(&points.p, start), lanes(&points.q, start)];
    let mut maps = [[0.0; LANES]; 6];
    for l in 0..LANES {
        maps[0][l] = p[l];
        maps[1][l] = -q[l];
        maps[2][l] = u[l] - p[l].mul_add(x[l], -(q[l] * y[l]));
        maps[3][l] = q[l];
        maps[4][l] = p[l];
        maps[5][l] = v[l] - q[l].mul_add(x[l], p[l] * y[l]);
    }
    maps
}

/// See [`super::Consensus::near`].
#[inline(always)]
pub fn near(points: &Points, u0: f32, v0: f32, squared_radius: f32) -> u32 {
    let mut count = 0;
    for (&u, &v) in points.u[..points.len].iter().zip(&points.v[..points.len]) {
        let (p, q) = (u - u0, v - v0);
        count += u32::from(p.mul_add(p, q * q) <= squared_radius);
    }
    count
}
