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

/// The kernels of one level. Having one proves that the machine can run it.
#[derive(Debug)]
pub struct Kernels {
    level: Level,
    tile: unsafe fn(Operands<'_>, &mut Sums),
}

/// One line a level.
static TABLE: &[Kernels] = &[
    Kernels { level: Level::Scalar, tile: scalar::tile },
    #[cfg(target_arch = "x86_64")]
    Kernels { level: Level::Avx2, tile: avx2::tile },
    #[cfg(target_arch = "x86_64")]
    Kernels { level: Level::Avx512, tile: avx512::tile },
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
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small whole numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
