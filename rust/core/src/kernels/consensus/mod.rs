//! How well an affine map agrees with a set of correspondences.
//!
//! For correspondences `(x, y) -> (u, v)`, a map `A = [a b c; d e f]` and a squared radius `R`, with the residual
//! `r = (a x + b y + c - u)^2 + (d x + e y + f - v)^2` and the weight `w = max(0, 1 - r / R)`:
//!
//! * [`Consensus::gains`]: `sum of w`, the truncated quadratic (MSAC) loss turned into a gain: 0 for no agreement, at most
//!   the number of correspondences;
//! * [`Consensus::moments`]: the twelve weighted sums from which least squares maps are solved;
//! * [`Consensus::near`]: how many points `(u, v)` lie within the radius of a given point.
//!
//! Everything is float32 in sixteen partial sums (lane = index modulo 16), multiplied and added separately and
//! folded in a fixed order. So every CPU level gives the same bits: the algorithm is written once, in `scalar.rs`,
//! and the other files compile it for their instruction set. Callers scale coordinates so that the inlier
//! threshold is about 1; these numbers only rank hypotheses and steer refinement, what is reported is computed
//! in float64 on the coordinates as given.

mod avx2;
mod avx512;
mod scalar;

use crate::error::Result;
use crate::level::{self, Level};

/// Correspondences a step; [`Points`] are padded to a multiple of it.
pub const LANES: usize = 16;

/// Far from everything, yet its square is finite: a weight of zero times this is zero.
const PADDING: f32 = 1e18;

/// An affine map `[a b c; d e f]`, row by row.
pub type Map = [f32; 6];

/// Correspondences as columns, padded with ones no map agrees with.
#[derive(Debug, Default, Clone)]
pub struct Points {
    len: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    u: Vec<f32>,
    v: Vec<f32>,
}

impl Points {
    /// Replaces the contents.
    pub fn fill(&mut self, points: impl Iterator<Item = [f32; 4]>) {
        for column in [&mut self.x, &mut self.y, &mut self.u, &mut self.v] {
            column.clear();
        }
        for [x, y, u, v] in points {
            self.x.push(x);
            self.y.push(y);
            self.u.push(u);
            self.v.push(v);
        }
        self.len = self.x.len();
        let padded = self.len.next_multiple_of(LANES);
        self.x.resize(padded, 0.0);
        self.y.resize(padded, 0.0);
        self.u.resize(padded, PADDING);
        self.v.resize(padded, PADDING);
    }

    /// Number of correspondences.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Correspondence `j` as `[x, y, u, v]`.
    pub fn get(&self, j: usize) -> [f32; 4] {
        [self.x[j], self.y[j], self.u[j], self.v[j]]
    }
}

/// Weighted sums over correspondences: of `w`, `w x`, `w y`, and so on.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the names are the sums")]
pub struct Moments {
    pub w: f64,
    pub x: f64,
    pub y: f64,
    pub u: f64,
    pub v: f64,
    pub xx: f64,
    pub xy: f64,
    pub yy: f64,
    pub xu: f64,
    pub yu: f64,
    pub xv: f64,
    pub yv: f64,
}

/// The functions of one CPU level, looked up once and used for many maps.
#[derive(Debug, Clone, Copy)]
pub struct Consensus {
    level: Level,
}

impl Consensus {
    /// The functions of the active level.
    pub fn new() -> Result<Self> {
        Ok(Self { level: level::active()? })
    }

    /// The sum of weights of each of up to [`LANES`] maps; the rest of the result is zero.
    pub fn gains(self, points: &Points, maps: &[Map], squared_radius: f32) -> [f32; LANES] {
        assert!(maps.len() <= LANES, "{} maps, at most {LANES} at a time", maps.len());
        match self.level {
            Level::Scalar => scalar::gains(points, maps, squared_radius),
            // SAFETY: the active level is one this machine can run.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::gains(points, maps, squared_radius) },
            // SAFETY: the active level is one this machine can run.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::gains(points, maps, squared_radius) },
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => unreachable!("not available on this architecture"),
        }
    }

    /// The weighted sums.
    pub fn moments(self, points: &Points, map: &Map, squared_radius: f32) -> Moments {
        match self.level {
            Level::Scalar => scalar::moments(points, map, squared_radius),
            // SAFETY: the active level is one this machine can run.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::moments(points, map, squared_radius) },
            // SAFETY: the active level is one this machine can run.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::moments(points, map, squared_radius) },
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => unreachable!("not available on this architecture"),
        }
    }

    /// How many points `(u, v)` lie within the radius of `(u0, v0)`.
    pub fn near(self, points: &Points, u0: f32, v0: f32, squared_radius: f32) -> u32 {
        match self.level {
            Level::Scalar => scalar::near(points, u0, v0, squared_radius),
            // SAFETY: the active level is one this machine can run.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::near(points, u0, v0, squared_radius) },
            // SAFETY: the active level is one this machine can run.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::near(points, u0, v0, squared_radius) },
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => unreachable!("not available on this architecture"),
        }
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
        points
    }

    #[test]
    fn levels_agree_bit_for_bit() {
        let maps: [Map; 4] = [
            [1.0, 0.0, 1.0, 0.0, 1.0, -2.0],
            [1.1, 0.2, -3.0, -0.1, 0.9, 4.0],
            [f32::NAN; 6],
            [f32::INFINITY, 0.0, 0.0, 0.0, 1.0, 0.0],
        ];
        for count in [0, 1, 15, 16, 17, 100, 301] {
            let points = points(count);
            for map in &maps {
                for radius in [1.0, 9.0, 400.0] {
                    let reference = Consensus { level: Level::Scalar };
                    for level in Level::available() {
                        let other = Consensus { level };
                        let (a, b) =
                            (reference.gains(&points, &maps, radius), other.gains(&points, &maps, radius));
                        assert_eq!(a.map(f32::to_bits), b.map(f32::to_bits), "{level:?}");
                        let (a, b) =
                            (reference.moments(&points, map, radius), other.moments(&points, map, radius));
                        assert_eq!(format!("{a:?}"), format!("{b:?}"), "{level:?}");
                        assert_eq!(
                            reference.near(&points, map[2], map[5], radius),
                            other.near(&points, map[2], map[5], radius),
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn gain_equals_the_definition() {
        let points = points(37);
        let map = [1.0, 0.02, 0.5, -0.03, 1.0, -1.0];
        let mut expected = 0.0_f64;
        let mut weighted_x = 0.0_f64;
        for j in 0..points.len() {
            let [x, y, u, v] = points.get(j).map(f64::from);
            let (p, q) = (x + 0.02 * y + 0.5 - u, -0.03 * x + y - 1.0 - v);
            let weight = (1.0 - (p * p + q * q) / 25.0).max(0.0);
            expected += weight;
            weighted_x += weight * x;
        }
        let consensus = Consensus::new().unwrap();
        assert!((f64::from(consensus.gains(&points, &[map], 25.0)[0]) - expected).abs() < 1e-3);
        let moments = consensus.moments(&points, &map, 25.0);
        assert!((moments.w - expected).abs() < 1e-3 && (moments.x - weighted_x).abs() < 1e-2);
    }
}
