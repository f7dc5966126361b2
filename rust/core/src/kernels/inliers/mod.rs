//! Which correspondences an affine map explains, in float64.
//!
//! For correspondences `(x, y) -> (u, v)`, a map `A = [a b c; d e f]` and the squared residual
//! `r = (a x + b y + c - u)^2 + (d x + e y + f - v)^2`, rounded operation by operation as `NumPy` rounds it:
//!
//! * [`Inliers::count`]: how many have `r / R <= 1`, and the sum of their `1 - r / R`;
//! * [`Inliers::moments`]: sums over those with `r <= R`, for least squares;
//! * [`Inliers::mask`]: those with `sqrt(r) <= threshold`.
//!
//! Eight correspondences at a time, without fused multiply-adds; sums are folded in a fixed order, so every CPU
//! level gives the same bits: the algorithm is written once, in `scalar.rs`, and the other files compile it.

mod avx2;
mod avx512;
mod scalar;

use crate::error::Result;
use crate::level::{self, Level};

/// Correspondences at a time.
const LANES: usize = 8;

/// Correspondences as columns, filled up to whole groups of eight with what is not a number and so never an inlier.
#[derive(Debug, Default, Clone)]
pub struct Columns {
    len: usize,
    /// `x`, `y`, `u`, `v`.
    values: [Vec<f64>; 4],
}

impl Columns {
    /// Number of correspondences.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Correspondence `j` as `[x, y, u, v]`.
    pub fn get(&self, j: usize) -> [f64; 4] {
        [0, 1, 2, 3].map(|i| self.values[i][j])
    }
}

/// Sums over inliers, of coordinates relative to `origin`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sums {
    /// One of the inliers, `[x, y, u, v]`.
    pub origin: [f64; 4],
    /// Of `1`, `x`, `y`, `u`, `v`, `xx`, `xy`, `yy`, `xu`, `yu`, `xv`, `yv`.
    pub moments: [f64; 12],
    /// Of `uu + vv`.
    pub squares: f64,
    /// Of `u - x` and `v - y`, each less that of the origin: exactly zero for a pure translation.
    pub shifts: [f64; 2],
}

/// The largest number whose square root is at most `threshold`, so that one comparison replaces a root.
fn largest_square(threshold: f64) -> f64 {
    let mut square = (threshold * threshold).next_up().next_up();
    while square.sqrt() > threshold {
        square = square.next_down();
    }
    square
}

/// The functions of one CPU level.
#[derive(Debug, Clone, Copy)]
pub struct Inliers {
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

impl Inliers {
    /// The functions of the active level.
    pub fn new() -> Result<Self> {
        Ok(Self { level: level::active()? })
    }

    /// Replaces the contents of `columns`; the mean of each column.
    pub fn fill(self, correspondences: &[[f32; 4]], columns: &mut Columns) -> [f64; 4] {
        at_level!(self, fill(correspondences, columns))
    }

    /// How many inliers the map has, and the sum of `1 - r / R` over them, for `inverse = 1 / R`.
    pub fn count(self, columns: &Columns, map: &[f64; 6], inverse: f64) -> (usize, f64) {
        at_level!(self, count(columns, map, inverse))
    }

    /// Sums over the inliers; None without any.
    pub fn moments(self, columns: &Columns, map: &[f64; 6], squared_threshold: f64) -> Option<Sums> {
        at_level!(self, moments(columns, map, squared_threshold))
    }

    /// Sets `mask` to which correspondences are inliers; their number.
    pub fn mask(self, columns: &Columns, map: &[f64; 6], threshold: f64, mask: &mut Vec<bool>) -> usize {
        at_level!(self, mask(columns, map, threshold, mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn correspondences(count: usize) -> Vec<[f32; 4]> {
        let place = |j: usize, a: usize, b: usize| (j * a % b) as f32 * 1.37 - 20.0;
        (0..count)
            .map(|j| {
                let (x, y) = (place(j, 7, 41), place(j, 11, 29));
                let spoilt = if j % 3 == 0 { 9.0 } else { 0.01 * (j % 7) as f32 };
                [x, y, 0.9 * x + 0.2 * y + 3.0 + spoilt, 1.1 * y - 0.1 * x - 5.0]
            })
            .collect()
    }

    const MAP: [f64; 6] = [0.9, 0.2, 3.0, -0.1, 1.1, -5.0];

    fn squared([x, y, u, v]: [f64; 4]) -> f64 {
        let [a, b, c, d, e, f] = MAP;
        let (p, q) = (a * x + b * y + c - u, d * x + e * y + f - v);
        p * p + q * q
    }

    #[test]
    fn every_level_equals_the_definition() {
        for count in [0, 1, 2, 7, 8, 9, 100, 301] {
            let points = correspondences(count);
            let wide: Vec<_> = points.iter().map(|point| point.map(f64::from)).collect();
            let inliers: Vec<_> =
                wide.iter().copied().filter(|&point| squared(point) <= 0.04 * 0.04).collect();
            for level in Level::available() {
                let functions = Inliers { level };
                let mut columns = Columns::default();
                let mean = functions.fill(&points, &mut columns);
                let bits = |point: [f64; 4]| point.map(f64::to_bits);
                assert!((0..count).all(|j| bits(columns.get(j)) == bits(wide[j])) && columns.len() == count);
                for i in 0..4 {
                    let expected = wide.iter().map(|point| point[i]).sum::<f64>() / count.max(1) as f64;
                    assert!((mean[i] - expected).abs() < 1e-9);
                }
                let (found, gain) = functions.count(&columns, &MAP, 1.0 / (0.04 * 0.04));
                let expected: f64 = inliers.iter().map(|&point| 1.0 - squared(point) / (0.04 * 0.04)).sum();
                assert!(found == inliers.len() && (gain - expected).abs() < 1e-9, "{level:?} {count}");
                let mut mask = vec![true; 3];
                assert_eq!(functions.mask(&columns, &MAP, 0.04, &mut mask), inliers.len());
                assert!(
                    mask.iter().zip(&wide).all(|(&inside, &point)| inside == (squared(point).sqrt() <= 0.04))
                );
                assert_eq!(mask.len(), count);
                let sums = functions.moments(&columns, &MAP, 0.04 * 0.04);
                assert_eq!(sums.is_none(), inliers.is_empty());
                let Some(sums) = sums else { continue };
                assert_eq!(bits(sums.origin), bits(inliers[0]));
                let relative = |point: &[f64; 4]| [0, 1, 2, 3].map(|i| point[i] - inliers[0][i]);
                let squares: f64 =
                    inliers.iter().map(|point| relative(point)[2].powi(2) + relative(point)[3].powi(2)).sum();
                assert!((sums.squares - squares).abs() <= 1e-9 * squares.max(1.0));
                let mut expected = [0.0; 12];
                for point in &inliers {
                    let [x, y, u, v] = relative(point);
                    let terms = [1.0, x, y, u, v, x * x, x * y, y * y, x * u, y * u, x * v, y * v];
                    expected.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
                }
                let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
                assert!(sums.moments.iter().zip(&expected).all(close), "{sums:?} {expected:?}");
                let scalar = Inliers { level: Level::Scalar };
                assert_eq!(scalar.moments(&columns, &MAP, 0.04 * 0.04), Some(sums), "the same bits");
                assert_eq!(scalar.count(&columns, &MAP, 600.0), functions.count(&columns, &MAP, 600.0));
            }
        }
    }

    #[test]
    fn the_largest_square_is_the_largest() {
        let mut thresholds = vec![1e-170, 3e-162, 1e-160, 5e-324, 1e154, 1e200, f64::MAX, 12.0, 0.024];
        thresholds.extend((1..2000).map(|i| f64::from(i) * 0.001_37));
        for threshold in thresholds {
            let square = largest_square(threshold);
            assert!(square.sqrt() <= threshold, "{threshold:e}");
            assert!(square.next_up().sqrt() > threshold, "{threshold:e}");
        }
    }

    #[test]
    fn a_translation_shifts_by_exactly_nothing() {
        let points: Vec<[f32; 4]> =
            (0..20_u8).map(|j| [f32::from(j), 3.0, f32::from(j) + 7.0, -2.0]).collect();
        let functions = Inliers::new().unwrap();
        let mut columns = Columns::default();
        functions.fill(&points, &mut columns);
        let sums = functions.moments(&columns, &[1.0, 0.0, 7.0, 0.0, 1.0, -5.0], 1e-6).unwrap();
        assert_eq!(sums.shifts.map(f64::to_bits), [0, 0]);
    }
}
