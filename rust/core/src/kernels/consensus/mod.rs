//! How well affine maps agree with a set of correspondences, sixteen maps at a time.
//!
//! For correspondences `(x, y) -> (u, v)`, a map `A = [a b c; d e f]` and a squared radius `R`, with the residual
//! `r = (a x + b y + c - u)^2 + (d x + e y + f - v)^2` and the weight `w = max(0, 1 - r / R)`:
//!
//! * [`Consensus::gains`]: `sum of w`, the truncated quadratic (MSAC) loss turned into a gain: 0 for no agreement, at most
//!   the number of correspondences;
//! * [`Consensus::supports`]: how many have a weight above zero;
//! * [`Consensus::scan`]: the best gains of many maps, made of samples of the correspondences ([`Source`]);
//! * [`Consensus::refine`]: the weighted least squares map;
//! * [`Consensus::polish`]: the same for a single map, several times, and its support;
//! * [`Consensus::near`]: how many points `(u, v)` lie within the radius of a given point.
//!
//! A lane is a map; correspondences are broadcast one after the other, so nothing is summed across lanes and no
//! lane is wasted on padding. (Only `polish`, with one map, has a correspondence in each lane.) Everything is float32 with explicit fused multiply-adds in a fixed order, so every
//! CPU level gives the same bits: the algorithm is written once, in `scalar.rs`, and the other files compile it for
//! their instruction set. Callers scale coordinates so that the inlier threshold is 1; these numbers only rank
//! hypotheses and steer refinement, what is reported is computed in float64 on the coordinates as given.

mod avx2;
mod avx512;
mod scalar;
mod scan;

use std::ops::Range;

use crate::error::Result;
use crate::level::{self, Level};

pub use scan::{Offer, Scoring};

/// Maps at a time.
pub const LANES: usize = 16;

/// One value of sixteen maps.
pub type Lanes = [f32; LANES];

/// Sixteen affine maps `[a b c; d e f]`, row by row; a map that is not a number agrees with nothing.
pub type Maps = [Lanes; 6];

/// What [`Consensus::supports`] adds to a count of one for a correspondence that agrees exactly: among equal counts
/// the closer wins.
pub const GAIN_SHARE: f32 = 1.0 / 1024.0;

/// What [`Consensus::refine`] may fit.
#[derive(Debug, Clone, Copy)]
pub struct Fit {
    /// Whether similarities are fitted, from a weight of 1.5.
    pub similarity: bool,
    /// Whether affine maps are fitted, from a weight of 3.5 (four or more correspondences near the map).
    pub affine: bool,
    /// The magnification of area is from `1 / area` to `area`.
    pub area: f32,
    /// The squares of the linear part sum to at most this times its determinant.
    pub spread: f32,
}

/// Where hypotheses come from: samples of the correspondences, a batch of sixteen at a time.
///
/// A round is a batch for every sixteen correspondences ([`Points::batches`]); each is the first of one sample.
/// Samples are counted modulo the number of correspondences. Models that are not believed are not a number and
/// agree with nothing: those whose magnification of area is not from `1 / area` to `area`.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// The similarity the keypoints of a correspondence suggest ([`Points::fill_keypoints`]).
    Keypoints,
    /// The similarity through two correspondences; in round `r` the second is `r + 1` further.
    Pairs {
        /// Limit of the magnification.
        area: f32,
    },
    /// The affine map through three correspondences; in round `r` the others are `samples[r]` further.
    Triples {
        /// Distances to the second and third, below the number of correspondences.
        samples: &'a [[u32; 2]],
        /// Limit of the magnification.
        area: f32,
        /// The squares of the linear part sum to at most this times its determinant.
        spread: f32,
    },
}

/// Correspondences as columns, repeated from the start for as long as samples reach beyond the end.
#[derive(Debug, Default, Clone)]
pub struct Points {
    len: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    u: Vec<f32>,
    v: Vec<f32>,
    /// Of similarities `[p -q; q p]` from keypoints; empty without.
    p: Vec<f32>,
    q: Vec<f32>,
}

/// Coordinates moved to a centre and divided by a unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Of `x`, `y`, `u`, `v`: becomes zero.
    pub centre: [f64; 4],
    /// One over the unit.
    pub inverse: f64,
}

/// Scaled coordinates are clamped to this, so that squares stay finite; what is that far away is an outlier of every
/// map.
pub const FARTHEST: f32 = 1e12;

impl Points {
    /// Adds the linear part `[p -q; q p]` of the similarity each correspondence's keypoints suggest.
    pub fn fill_keypoints(&mut self, parts: impl ExactSizeIterator<Item = [f32; 2]>) {
        assert_eq!(parts.len(), self.len, "one similarity a correspondence");
        for [p, q] in parts {
            self.p.push(p);
            self.q.push(q);
        }
        for column in [&mut self.p, &mut self.q] {
            repeat(column, self.len);
        }
    }

    /// The same for translations.
    pub fn fill_translations(&mut self) {
        for (column, value) in [(&mut self.p, 1.0), (&mut self.q, 0.0)] {
            column.clear();
            column.resize(2 * self.len + 2 * LANES, value);
        }
    }

    /// Number of correspondences.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Batches a round: sixteen correspondences each.
    pub fn batches(&self) -> usize {
        self.len.div_ceil(LANES)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Correspondence `j` as `[x, y, u, v]`.
    pub fn get(&self, j: usize) -> [f32; 4] {
        [self.x[j], self.y[j], self.u[j], self.v[j]]
    }

    #[inline]
    fn first(&self, most: usize) -> impl Iterator<Item = [f32; 4]> {
        let len = most.min(self.len);
        let [x, y, u, v] = [&self.x, &self.y, &self.u, &self.v].map(|column| &column[..len]);
        x.iter().zip(y).zip(u).zip(v).map(|(((&x, &y), &u), &v)| [x, y, u, v])
    }
}

/// Repeats the first `len` values so that sixteen lanes can start anywhere below `2 * len`.
///
/// A column may have been that long before: what lies beyond `len` is replaced.
fn repeat(column: &mut Vec<f32>, len: usize) {
    column.truncate(len);
    if len > 0 {
        column.reserve(len + 2 * LANES);
        while column.len() < 2 * len + 2 * LANES {
            let most = (2 * len + 2 * LANES - column.len()).min(len);
            column.extend_from_within(..most);
        }
    }
}

/// The functions of one CPU level, looked up once and used for many maps.
#[derive(Debug, Clone, Copy)]
pub struct Consensus {
    level: Level,
}

/// Calls the function of the level.
macro_rules! at_level {
    ($self:ident, $name:ident ( $($argument:expr),* )) => {
        match $self.level {
            Level::Scalar => scalar::$name($($argument),*),
            // SAFETY: the active level is one this machine can run.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::$name($($argument),*) },
            // SAFETY: the active level is one this machine can run.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::$name($($argument),*) },
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => unreachable!("not available on this architecture"),
        }
    };
}

impl Consensus {
    /// The functions of the active level.
    pub fn new() -> Result<Self> {
        Ok(Self { level: level::active()? })
    }

    /// Replaces the contents of `points` by correspondences in the order given (indices of them), scaled in float64
    /// and then rounded.
    ///
    /// # Panics
    /// If an index is not one of a correspondence.
    pub fn fill(self, points: &mut Points, correspondences: &[[f32; 4]], order: &[u32], scaling: &Scaling) {
        at_level!(self, fill(points, correspondences, order, scaling));
    }

    /// Width and height of the box around the points `(u, v)`; zero without any.
    pub fn extent(self, points: &Points) -> [f32; 2] {
        at_level!(self, extent(points))
    }

    /// Makes maps from the samples of these batches, and offers those whose sum of weights is above `bar`, in
    /// order; `offer` returns the bar from then on.
    pub fn scan(
        self,
        points: &Points,
        source: &Source<'_>,
        batches: Range<usize>,
        scoring: &Scoring,
        bar: f32,
        offer: &mut Offer<'_>,
    ) {
        at_level!(self, scan(points, source, batches, scoring, bar, offer));
    }

    /// How many correspondences agree with each map within a radius of 1, and [`GAIN_SHARE`] of their gain.
    pub fn supports(self, points: &Points, maps: &Maps) -> Lanes {
        at_level!(self, supports(points, maps))
    }

    /// Replaces each map by the weighted least squares solution, over the first `most` correspondences, of the richest family `fit` allows: affine, else
    /// similarity, else translation. A map nothing agrees with stays as it is.
    pub fn refine(self, points: &Points, most: usize, maps: &mut Maps, squared_radius: f32, fit: &Fit) {
        at_level!(self, refine(points, most, maps, squared_radius, fit));
    }

    /// [`Self::refine`] of one map in each of these steps in turn; its support.
    pub fn polish(self, points: &Points, map: &mut [f32; 6], steps: &[Scoring], fit: &Fit) -> f32 {
        at_level!(self, polish(points, map, steps, fit))
    }

    /// How many points `(u, v)` lie within the radius of `(u0, v0)`.
    pub fn near(self, points: &Points, u0: f32, v0: f32, squared_radius: f32) -> u32 {
        at_level!(self, near(points, u0, v0, squared_radius))
    }
}

#[cfg(test)]
mod tests;
