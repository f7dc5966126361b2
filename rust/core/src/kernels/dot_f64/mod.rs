//! Canonical sums of many pairs: inner products in float64 of queries with a panel of rows.
//!
//! Rows run across the lanes: a panel holds 16 of them transposed (`[d][16]`), queries are row-major and the broadcast
//! operand. Each term of a sum takes part in at most `d` roundings of relative size `2^-53`, with or without FMA; terms are exact
//! where the values came from float16 and float32. A tile is 12 queries by 16 rows: 24 AVX-512 accumulators, or four passes
//! with 12 AVX2 accumulators each.

use crate::error::Result;
use crate::level::{self, Level};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod plain;
mod scalar;

/// Rows in a panel.
pub const LANES: usize = 16;
/// Queries in a tile.
pub const TILE: usize = 12;

/// The sums of a tile, `[query][row]`.
#[derive(Debug, Clone, Default)]
#[repr(C, align(64))]
pub struct Sums(pub [[f64; LANES]; TILE]);

/// The arguments of a tile: 12 queries, `stride` apart, and one panel.
#[derive(Debug, Clone, Copy)]
struct Operands<'a> {
    queries: &'a [f64],
    stride: usize,
    panel: &'a [f64],
}

type Round = unsafe fn(&[f64; LANES], &[f64; LANES], f64, &mut [[f32; LANES]; 2]);

/// The kernels of one level. Having one proves that the machine can run it.
#[derive(Debug)]
pub struct Kernels {
    level: Level,
    tile: unsafe fn(Operands<'_>, &mut Sums),
    peak: unsafe fn(&[f32]) -> f32,
    scale: unsafe fn(&[f32], f64, &mut [f32]) -> f64,
    widen: unsafe fn(&[f32], &mut [f64]) -> f64,
    round: Round,
}

/// One line a level.
static TABLE: &[Kernels] = &[
    Kernels {
        level: Level::Scalar,
        tile: scalar::tile,
        peak: plain::peak,
        scale: plain::scale,
        widen: plain::widen,
        round: plain::round,
    },
    #[cfg(target_arch = "x86_64")]
    Kernels {
        level: Level::Avx2,
        tile: avx2::tile,
        peak: avx2::peak,
        scale: avx2::scale,
        widen: avx2::widen,
        round: avx2::round,
    },
    #[cfg(target_arch = "x86_64")]
    Kernels {
        level: Level::Avx512,
        tile: avx512::tile,
        peak: avx512::peak,
        scale: avx512::scale,
        widen: avx512::widen,
        round: avx512::round,
    },
];

impl Kernels {
    /// The kernels of the active level.
    pub fn active() -> Result<&'static Self> {
        Ok(Self::of(level::active()?).unwrap_or(&TABLE[0]))
    }

    /// The kernels of `level`, if this machine can run them.
    pub fn of(level: Level) -> Option<&'static Self> {
        TABLE.iter().find(|kernels| kernels.level == level && level.is_available())
    }

    /// Multiplies 12 float64 queries, `stride` apart, with a panel `[d][16]`.
    ///
    /// # Panics
    /// If `queries` is too short for 12 queries of `panel.len() / 16` values.
    pub fn tile(&self, queries: &[f64], stride: usize, panel: &[f64], sums: &mut Sums) {
        let depth = panel.len() / LANES;
        assert!(stride >= depth && queries.len() >= (TILE - 1) * stride + depth, "a tile needs 12 queries");
        // SAFETY: the level is available, and the queries and the panel are as long as the kernel reads.
        unsafe { (self.tile)(Operands { queries, stride, panel }, sums) }
    }

    /// The largest magnitude; not finite if one of the values is not.
    pub fn peak(&self, values: &[f32]) -> f32 {
        // SAFETY: the level is available.
        unsafe { (self.peak)(values) }
    }

    /// Multiplies values with `factor` in float64, rounds them to float32, and sums the squares of those in float64, in any order.
    ///
    /// # Panics
    /// If `scaled` is shorter than the values.
    pub fn scale(&self, values: &[f32], factor: f64, scaled: &mut [f32]) -> f64 {
        // SAFETY: the level is available.
        unsafe { (self.scale)(values, factor, scaled) }
    }

    /// Converts values to float64 and sums their squares, in any order.
    ///
    /// # Panics
    /// If `widened` is shorter than the values.
    pub fn widen(&self, values: &[f32], widened: &mut [f64]) -> f64 {
        // SAFETY: the level is available.
        unsafe { (self.widen)(values, widened) }
    }

    /// Rounds `sum - error` and `sum + error` to float32, for errors times `factor`, which are made larger by more than a
    /// rounding of the sum.
    pub fn round(
        &self,
        sums: &[f64; LANES],
        errors: &[f64; LANES],
        factor: f64,
        ends: &mut [[f32; LANES]; 2],
    ) {
        // SAFETY: the level is available.
        unsafe { (self.round)(sums, errors, factor, ends) }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small whole numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_steps_are_those_of_float64() {
        for length in [0, 1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..length).map(|i| (i as f32 * 1.3).sin() * 8.0).collect();
            for level in Level::available() {
                let kernels = Kernels::of(level).unwrap();
                assert_eq!(
                    kernels.peak(&values),
                    values.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()))
                );
                for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    for at in 0..length {
                        let mut values = values.clone();
                        values[at] = bad;
                        assert!(!kernels.peak(&values).is_finite());
                    }
                }
                let (mut scaled, mut widened) = (vec![7.0; length + 2], vec![7.0; length + 2]);
                let square = kernels.scale(&values, 0.125, &mut scaled);
                let expected: f64 = values.iter().map(|&value| f64::from(value / 8.0).powi(2)).sum();
                assert!((square - expected).abs() <= 1e-12 * expected);
                assert!(scaled.iter().zip(&values).all(|(scaled, value)| *scaled == value / 8.0));
                let square = kernels.widen(&values, &mut widened);
                assert!((square - 64.0 * expected).abs() <= 1e-10 * expected);
                assert!(widened.iter().zip(&values).all(|(wide, value)| *wide == f64::from(*value)));
                assert_eq!((&scaled[length..], &widened[length..]), (&[7.0; 2][..], &[7.0; 2][..]));
                let sums = std::array::from_fn(|i| (i as f64 - 7.0) * 0.1);
                let errors = std::array::from_fn(|i| [0.0, 1.0, f64::INFINITY][i % 3]);
                let mut ends = [[7.0; LANES]; 2];
                kernels.round(&sums, &errors, 0.5, &mut ends);
                for i in 0..LANES {
                    let expected = [(sums[i] - errors[i] / 2.0) as f32, (sums[i] + errors[i] / 2.0) as f32];
                    assert_eq!([ends[0][i], ends[1][i]], expected);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_pair_is_summed(depth in 0_usize..70, more in 0_usize..4, seed: u64) {
            let mut state = seed | 1;
            let mut values = |count: usize| -> Vec<f64> {
                let next = || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    ((state >> 33) % 2001) as f64 - 1000.0
                };
                std::iter::repeat_with(next).take(count).collect()
            };
            let stride = depth + more;
            let (queries, panel) = (values(stride * TILE), values(depth * LANES));
            for level in Level::available() {
                let mut sums = Sums([[7.0; LANES]; TILE]);
                Kernels::of(level).unwrap().tile(&queries, stride, &panel, &mut sums);
                for (i, sums) in sums.0.iter().enumerate() {
                    for (j, &sum) in sums.iter().enumerate() {
                        let expected: f64 = (0..depth).map(|t| queries[i * stride + t] * panel[t * LANES + j]).sum();
                        prop_assert_eq!(sum, expected, "{:?} {} {}", level, i, j);
                    }
                }
            }
        }
    }
}
