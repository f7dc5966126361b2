//! How well affine maps agree with a set of correspondences, sixteen maps at a time.
//!
//! For correspondences `(x, y) -> (u, v)`, a map `A = [a b c; d e f]` and a squared radius `R`, with the residual
//! `r = (a x + b y + c - u)^2 + (d x + e y + f - v)^2` and the weight `w = max(0, 1 - r / R)`:
//!
//! * [`Consensus::gains`]: `sum of w`, the truncated quadratic (MSAC) loss turned into a gain: 0 for no agreement, at most
//!   the number of correspondences;
//! * [`Consensus::supports`]: how many have a weight above zero;
//! * [`Consensus::refine`]: the weighted least squares map;
//! * [`Consensus::pairs`], [`Consensus::triples`], [`Consensus::keypoints`]: the maps to try;
//! * [`Consensus::near`]: how many points `(u, v)` lie within the radius of a given point.
//!
//! A lane is a map; correspondences are broadcast one after the other, so nothing is summed across lanes and no
//! lane is wasted on padding. Everything is float32 with explicit fused multiply-adds in a fixed order, so every
//! CPU level gives the same bits: the algorithm is written once, in `scalar.rs`, and the other files compile it for
//! their instruction set. Callers scale coordinates so that the inlier threshold is 1; these numbers only rank
//! hypotheses and steer refinement, what is reported is computed in float64 on the coordinates as given.

mod avx2;
mod avx512;
mod scalar;

use crate::error::Result;
use crate::level::{self, Level};

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

impl Points {
    /// Replaces the contents.
    pub fn fill(&mut self, points: impl ExactSizeIterator<Item = [f32; 4]>) {
        self.len = points.len();
        for column in [&mut self.x, &mut self.y, &mut self.u, &mut self.v] {
            column.clear();
            column.reserve(2 * self.len + 2 * LANES);
        }
        for [x, y, u, v] in points {
            self.x.push(x);
            self.y.push(y);
            self.u.push(u);
            self.v.push(v);
        }
        for column in [&mut self.x, &mut self.y, &mut self.u, &mut self.v] {
            repeat(column, self.len);
        }
        self.p.clear();
        self.q.clear();
    }

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

    /// Number of correspondences.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Width and height of the box around the points `(u, v)`; zero without any.
    pub fn extent(&self) -> [f32; 2] {
        [&self.u, &self.v].map(|column| {
            let column = &column[..self.len];
            let low = column.iter().fold(f32::INFINITY, |low, &value| if value < low { value } else { low });
            let high =
                column.iter().fold(f32::NEG_INFINITY, |high, &value| if value > high { value } else { high });
            (high - low).max(0.0)
        })
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
fn repeat(column: &mut Vec<f32>, len: usize) {
    if len > 0 {
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

    /// The sum of weights of each map over the first `most` correspondences.
    pub fn gains(self, points: &Points, most: usize, maps: &Maps, squared_radius: f32) -> Lanes {
        at_level!(self, gains(points, most, maps, squared_radius))
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

    /// The similarities through correspondences `start + l` and `start + l + offset` for lanes `l`, counted modulo
    /// their number; not a number where their area magnification is not from `1 / area` to `area`.
    ///
    /// `start` and `offset` are below the number of correspondences.
    pub fn pairs(self, points: &Points, start: usize, offset: usize, area: f32) -> Maps {
        at_level!(self, pairs(points, start, offset, area))
    }

    /// The affine maps through correspondences `start + l` and those `offsets` further; not a number where [`Self::pairs`]
    /// says so, and where the squares of the linear part sum to more than `spread` times its determinant.
    pub fn triples(self, points: &Points, start: usize, offsets: [usize; 2], area: f32, spread: f32) -> Maps {
        at_level!(self, triples(points, start, offsets, area, spread))
    }

    /// The similarities that the keypoints of correspondences `start + l` suggest.
    pub fn keypoints(self, points: &Points, start: usize) -> Maps {
        at_level!(self, keypoints(points, start))
    }

    /// How many points `(u, v)` lie within the radius of `(u0, v0)`.
    pub fn near(self, points: &Points, u0: f32, v0: f32, squared_radius: f32) -> u32 {
        at_level!(self, near(points, u0, v0, squared_radius))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(count: usize) -> Points {
        let mut points = Points::default();
        points.fill((0..count).map(|j| {
            let j = j as f32;
            [(j * 7.3) % 41.0, (j * 3.1) % 29.0, (j * 7.4 + 1.0) % 43.0, (j * 2.9 - 2.0) % 31.0]
        }));
        points.fill_keypoints((0..count).map(|j| [1.0 + j as f32 / 40.0, 0.3 - j as f32 / 50.0]));
        points
    }

    fn maps(some: &[[f32; 6]]) -> Maps {
        let mut maps = [[f32::NAN; LANES]; 6];
        for (l, map) in some.iter().enumerate() {
            for (lanes, &value) in maps.iter_mut().zip(map) {
                lanes[l] = value;
            }
        }
        maps
    }

    #[test]
    fn levels_agree_bit_for_bit() {
        let maps = maps(&[
            [1.0, 0.0, 1.0, 0.0, 1.0, -2.0],
            [1.1, 0.2, -3.0, -0.1, 0.9, 4.0],
            [f32::NAN; 6],
            [f32::INFINITY, 0.0, 0.0, 0.0, 1.0, 0.0],
        ]);
        let bits = |lanes: &[Lanes]| lanes.iter().map(|lanes| lanes.map(f32::to_bits)).collect::<Vec<_>>();
        let same = |a: &[Lanes], b: &[Lanes]| {
            // All that is not a number is alike.
            let clean = |lanes: &[Lanes]| {
                bits(
                    &lanes
                        .iter()
                        .map(|l| l.map(|v| if v.is_nan() { f32::NAN } else { v }))
                        .collect::<Vec<_>>(),
                )
            };
            clean(a) == clean(b)
        };
        for count in [1, 2, 15, 16, 17, 100, 301] {
            let points = points(count);
            let reference = Consensus { level: Level::Scalar };
            for level in Level::available() {
                let other = Consensus { level };
                for radius in [1.0, 9.0, 400.0] {
                    let (a, b) = (
                        reference.gains(&points, 99, &maps, radius),
                        other.gains(&points, 99, &maps, radius),
                    );
                    assert!(same(&[a], &[b]), "{level:?}");
                    let (a, b) = (reference.supports(&points, &maps), other.supports(&points, &maps));
                    assert!(same(&[a], &[b]), "{level:?}");
                    for (similarity, affine) in [(true, true), (true, false), (false, false)] {
                        let fit = Fit { similarity, affine, area: 100.0, spread: 4.25 };
                        let (mut a, mut b) = (maps, maps);
                        reference.refine(&points, 250, &mut a, radius, &fit);
                        other.refine(&points, 250, &mut b, radius, &fit);
                        assert!(same(&a, &b), "{level:?}");
                    }
                    assert_eq!(
                        reference.near(&points, 3.0, 4.0, radius),
                        other.near(&points, 3.0, 4.0, radius)
                    );
                }
                for start in [0, count / 2, count - 1] {
                    for offset in 0..count.min(5) {
                        let found = other.pairs(&points, start, offset, 100.0);
                        assert!(same(&reference.pairs(&points, start, offset, 100.0), &found), "{level:?}");
                    }
                    let second = count / 2;
                    let found = other.triples(&points, start, [1 % count, second], 100.0, 5.0);
                    let expected = reference.triples(&points, start, [1 % count, second], 100.0, 5.0);
                    assert!(same(&expected, &found), "{level:?}");
                    let found = other.keypoints(&points, start);
                    assert!(same(&reference.keypoints(&points, start), &found), "{level:?}");
                }
            }
        }
    }

    #[test]
    fn gain_equals_the_definition() {
        let points = points(37);
        let map = [1.0, 0.02, 0.5, -0.03, 1.0, -1.0];
        let mut expected = 0.0_f64;
        for j in 0..points.len() {
            let [x, y, u, v] = points.get(j).map(f64::from);
            let (p, q) = (x + 0.02 * y + 0.5 - u, -0.03 * x + y - 1.0 - v);
            let weight = (1.0 - (p * p + q * q) / 25.0).max(0.0);
            expected += weight;
        }
        let consensus = Consensus::new().unwrap();
        let maps = maps(&[map]);
        let gains = consensus.gains(&points, 37, &maps, 25.0);
        assert!((f64::from(gains[0]) - expected).abs() < 1e-3);
        assert!(gains[1..].iter().all(|gain| *gain <= 0.0), "what is not a number agrees with nothing");
        let supports = consensus.supports(&points, &maps);
        assert!(
            (supports[0].floor() - points.first(37).filter(|&point| near(map, point)).count() as f32).abs()
                < 0.5
        );
    }

    fn near(map: [f32; 6], [x, y, u, v]: [f32; 4]) -> bool {
        let (p, q) = (map[0] * x + map[1] * y + map[2] - u, map[3] * x + map[4] * y + map[5] - v);
        p * p + q * q < 1.0
    }

    #[test]
    fn refinement_recovers_the_map_of_exact_correspondences() {
        let truth = [0.8, 0.3, 2.0, -0.2, 1.1, -1.0];
        let mut points = Points::default();
        points.fill((0..40).map(|j| {
            let (x, y) = ((j * 7 % 41) as f32 - 20.0, (j * 11 % 29) as f32 - 14.0);
            let spoilt = if j % 4 == 0 { 1e3 } else { 0.0 };
            let u = truth[0] * x + truth[1] * y + truth[2] + spoilt;
            [x, y, u, truth[3] * x + truth[4] * y + truth[5]]
        }));
        let consensus = Consensus::new().unwrap();
        let fit = Fit { similarity: true, affine: true, area: 100.0, spread: 4.25 };
        let mut maps = maps(&[[0.82, 0.3, 2.1, -0.2, 1.05, -1.1]]);
        consensus.refine(&points, 40, &mut maps, 9.0, &fit);
        for (value, expected) in maps.iter().zip(truth) {
            assert!((value[0] - expected).abs() < 1e-4, "{value:?}");
            assert!(value[1].is_nan(), "what nothing agrees with stays");
        }
    }

    #[test]
    fn maps_pass_through_their_correspondences() {
        let points = points(21);
        let consensus = Consensus::new().unwrap();
        for (maps, offset) in [(consensus.pairs(&points, 9, 4, 1e6), 4), (consensus.keypoints(&points, 9), 0)]
        {
            let lanes = maps[0].iter().enumerate();
            for (l, _) in lanes {
                for j in [(9 + l) % 21, (9 + l + offset) % 21] {
                    let [x, y, u, v] = points.get(j);
                    let image = [0, 3].map(|row| maps[row][l] * x + maps[row + 1][l] * y + maps[row + 2][l]);
                    assert!((image[0] - u).abs() < 1e-3 && (image[1] - v).abs() < 1e-3, "{l} {j}");
                }
            }
        }
        let maps = consensus.triples(&points, 9, [4, 11], 1e6, 1e6);
        let believed: Vec<_> = (0..LANES).filter(|&l| maps[0][l].is_finite()).collect();
        assert!(believed.len() > 3);
        for l in believed {
            for j in [(9 + l) % 21, (13 + l) % 21, (20 + l) % 21] {
                let [x, y, u, v] = points.get(j);
                let image = [0, 3].map(|row| maps[row][l] * x + maps[row + 1][l] * y + maps[row + 2][l]);
                assert!((image[0] - u).abs() < 1e-2 && (image[1] - v).abs() < 1e-2, "{l} {j}");
            }
        }
    }
}
