//! The most plausible map of correspondences so few, or so few of them right, that chance explains as many inliers.
//!
//! Counting inliers does not tell such maps apart: two right correspondences of twenty have no more inliers than any
//! other two. But not every map is as likely beforehand: most photographs are upright and show a thing about as
//! large, and little foreshortened. The map of a sample is judged by its posterior odds against chance,
//!
//! ```text
//! odds = A^(f - 1) * density(L) / J * (A / (pi R^2))^(n - f)
//! ```
//!
//! for `n` inliers within `R`, `f` correspondences in the sample (one gives a translation, two a similarity, three an
//! affine map), and the area `A` of the box around the database points. A random correspondence lies anywhere in `A`; one that
//! follows the map, within `R`: the last factor. The others of the sample lie where a linear part `L` with that density
//! beforehand puts them; `J`, the square of the length or of the area they span in the query, is the Jacobian
//! (`L` is known the better the further apart they are). No more than two inliers of a translation are worth:
//! positions that nearly coincide say nothing about `L`.
//!
//! Densities are bivariate t of two degrees of freedom: [`UPRIGHT`] of the similarities (`L = [p -q; q p]`) lie about
//! the identity, the rest about zero (every angle alike, a logistic distribution of the logarithm of the scale);
//! foreshortening (`[r s; s -r]` in units of the scale) about zero.

use std::f64::consts::PI;

use super::estimator::Batch;
use super::models::{Family, Limits};
use super::ransac::{Candidate, Outcome};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::consensus::{Consensus, LANES, Maps, Points};

/// Samples of two, and of three, that are tried; where there are more, none of them is.
const MOST: usize = 2048;

/// Odds of a translation beside its inliers: what is the same picture is mostly not even turned.
const STILL: f64 = 3.0;

/// Share of similarities near the identity, and the square of how near.
const UPRIGHT: f64 = 0.3;
const NEAR: f64 = 0.15 * 0.15;

/// Square of the usual foreshortening, `(s1 - s2) / (s1 + s2)` for singular values `s1` and `s2`.
const FORESHORTENED: f64 = 0.2 * 0.2;

/// Whether so many correspondences are few enough to be looked at in this way.
pub fn are_few(count: usize) -> bool {
    count * count.saturating_sub(1) / 2 <= MOST
}

/// The map of the best posterior odds among those of all single correspondences, pairs and triples; None if
/// nothing agrees with any.
///
/// Complexity: O(t^4) for `t` correspondences up to 24, O(t^3) with pairs alone up to 64: each map is compared with all.
pub fn most_plausible(
    points: &Points,
    family: Family,
    limits: &Limits,
    consensus: Consensus,
    control: &Control,
) -> Result<Outcome<[f32; 6]>> {
    let [width, height] = consensus.extent(points).map(|extent| f64::from(extent).max(1.0));
    let mut search = Search::new(points, consensus, width * height);
    let (t, at) = (points.len(), |j| points.get(j).map(f64::from));
    for j in 0..t {
        search.offer(at(j), [1.0, 0.0, 0.0, 1.0], STILL, 1);
    }
    for i in (0..t).filter(|_| family >= Family::Similarity && are_few(t)) {
        control.check()?;
        for j in i + 1..t {
            search.pair(at(i), at(j), limits);
        }
    }
    let triples = t * t.saturating_sub(1) * t.saturating_sub(2) / 6;
    for i in (0..t).filter(|_| family >= Family::Affine && triples <= MOST) {
        control.check()?;
        for j in i + 1..t {
            for k in j + 1..t {
                search.triple(at(i), at(j), at(k), limits);
            }
        }
    }
    search.judge();
    Ok(Outcome { best: search.best.map(|(_, best)| best), hypotheses: search.hypotheses })
}

/// The bivariate t distribution of two degrees of freedom, at a square distance from its centre, of a square width.
fn density(square: f64, width: f64) -> f64 {
    let share = 1.0 + square / width;
    1.0 / (PI * width * share * share)
}

/// Density of the similarity `[p -q; q p]`.
fn of_similarity(p: f64, q: f64) -> f64 {
    let (turned, square) = (q * q, p * p + q * q);
    UPRIGHT * density((p - 1.0) * (p - 1.0) + turned, NEAR) + (1.0 - UPRIGHT) * density(square, 1.0)
}

/// Density of the linear part `[a b; d e]`.
fn of_affine([a, b, d, e]: [f64; 4]) -> f64 {
    let (p, q, r, s) = (0.5 * (a + e), 0.5 * (d - b), 0.5 * (a - e), 0.5 * (b + d));
    let square = p * p + q * q;
    // Per unit of a, b, d, e: a fourth of that of p, q, r, s.
    of_similarity(p, q) * density((r * r + s * s) / square, FORESHORTENED) / (4.0 * square)
}

/// Maps are judged sixteen at a time.
struct Search<'a> {
    points: &'a Points,
    consensus: Consensus,
    area: f64,
    /// What an inlier is worth: how much larger the area is than that within a radius of 1.
    worth: f64,
    maps: Maps,
    /// Odds of the maps without their inliers, and the correspondences they agree with for free.
    waiting: [(f64, i32); LANES],
    count: usize,
    best: Option<(f64, Candidate<[f32; 6]>)>,
    hypotheses: usize,
}

impl<'a> Search<'a> {
    fn new(points: &'a Points, consensus: Consensus, area: f64) -> Self {
        let (maps, waiting, worth) = (Maps::nothing(), [(0.0, 1); LANES], (area / PI).max(1.0));
        Self { points, consensus, area, worth, maps, waiting, count: 0, best: None, hypotheses: 0 }
    }

    /// The similarity through two correspondences.
    fn pair(&mut self, first: [f64; 4], second: [f64; 4], limits: &Limits) {
        let [x, y, u, v] = difference(first, second);
        let (from, to) = (x * x + y * y, u * u + v * v);
        let most = f64::from(limits.area());
        if from > 0.0 && to <= most * from && from <= most * to {
            let (p, q) = ((x * u + y * v) / from, (x * v - y * u) / from);
            self.offer(first, [p, -q, q, p], self.area * of_similarity(p, q) / from, 2);
        }
    }

    /// The affine map through three correspondences.
    fn triple(&mut self, first: [f64; 4], second: [f64; 4], third: [f64; 4], limits: &Limits) {
        let ([x, y, u, v], [z, w, s, t]) = (difference(first, second), difference(first, third));
        let (from, to) = (x * w - y * z, u * t - v * s);
        let most = f64::from(limits.area());
        // The linear part times `from`, so that most are refused before anything is divided.
        let linear = [u * w - s * y, s * x - u * z, v * w - t * y, t * x - v * z];
        let [squares, product] = [linear.iter().map(|value| value * value).sum(), from * to];
        let believed = product > 0.0
            && to.abs() <= most * from.abs()
            && from.abs() <= most * to.abs()
            && squares <= f64::from(limits.spread()) * product;
        if believed {
            let linear = linear.map(|value| value / from);
            let odds = self.area * self.area * of_affine(linear) / (from * from);
            self.offer(first, linear, odds, 3);
        }
    }

    /// The map of that linear part through a correspondence.
    fn offer(&mut self, [x, y, u, v]: [f64; 4], [a, b, d, e]: [f64; 4], odds: f64, free: i32) {
        let map = [a, b, u - (a * x + b * y), d, e, v - (d * x + e * y)];
        self.maps.set(self.count, map.map(|value| value as f32));
        let most = if free == 1 { odds } else { self.worth.powi(free - 1) };
        self.waiting[self.count] = (odds.min(most), free);
        self.count += 1;
        if self.count == LANES {
            self.judge();
        }
    }

    /// Counts the inliers of the maps that wait.
    fn judge(&mut self) {
        let supports = self.consensus.supports(self.points, &self.maps);
        for (lane, (&score, (odds, free))) in supports.iter().zip(self.waiting).take(self.count).enumerate() {
            // Supports are counts and a little more.
            let odds = odds * self.worth.powi(score as i32 - free);
            if score > 0.0 && self.best.is_none_or(|(best, _)| odds > best) {
                self.best = Some((odds, Candidate { model: self.maps.get(lane), score }));
            }
        }
        self.hypotheses += self.count;
        self.count = 0;
    }
}

fn difference(from: [f64; 4], to: [f64; 4]) -> [f64; 4] {
    std::array::from_fn(|i| to[i] - from[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums a density over the plane of a function's two arguments, in rings.
    fn mass(density: impl Fn(f64, f64) -> f64) -> f64 {
        let (rings, spokes) = (4000, 64);
        let mut sum = 0.0;
        for ring in 0..rings {
            // Radii up to a thousand, evenly in the logarithm.
            let at = |part: f64| 1e-4 * 1e7_f64.powf(part / f64::from(rings));
            let (inner, middle, outer) =
                (at(f64::from(ring)), at(f64::from(ring) + 0.5), at(f64::from(ring) + 1.0));
            for spoke in 0..spokes {
                let angle = 2.0 * PI * f64::from(spoke) / f64::from(spokes);
                let part = PI * (outer * outer - inner * inner) / f64::from(spokes);
                sum += part * density(middle * angle.cos(), middle * angle.sin());
            }
        }
        sum
    }

    #[test]
    fn densities_sum_to_one() {
        assert!((mass(|p, q| density(p * p + q * q, FORESHORTENED)) - 1.0).abs() < 1e-3);
        // Centred on the identity, where it is steep.
        assert!((mass(|p, q| of_similarity(1.0 + p, q)) - 1.0).abs() < 1e-2);
        // Of all affine maps with the similarity [0.5 -0.5; 0.5 0.5], in units of a, b, d, e.
        let slice = mass(|r, s| 4.0 * of_affine([0.5 + r, s - 0.5, 0.5 + s, 0.5 - r]));
        assert!((slice / of_similarity(0.5, 0.5) - 1.0).abs() < 1e-2, "{slice}");
    }

    #[test]
    fn upright_goes_before_turned_and_turned_before_foreshortened() {
        let upright = of_affine([1.0, 0.0, 0.0, 1.0]);
        let turned = of_affine([0.0, -1.0, 1.0, 0.0]);
        let foreshortened = of_affine([0.0, -2.0, 0.5, 0.0]);
        assert!(
            upright > 10.0 * turned && turned > 10.0 * foreshortened,
            "{upright} {turned} {foreshortened}"
        );
    }
}
