//! Inner products of float16 rows with float32 queries.
//!
//! Two families, with different promises:
//!
//! * **Screens** ([`Kernels::tile`], [`Kernels::few`]) accumulate in float32, in an order that differs from level
//!   to level. A term of the sum takes part in at most `d + 8` roundings, so
//!   `|screen - exact| <= gamma(d + 8) * ||q|| * ||x||` with `gamma(m) = m u / (1 - m u)`, `u = 2^-24`, as long
//!   as nothing overflows or underflows (`search::bounds` scales the queries and adds the underflow term).
//! * **Canonical sums** ([`Kernels::dot`]) accumulate the exact float64 products in float64, with at most `d + 8`
//!   roundings of relative size `2^-53` a term; the caller bounds the error by the norms.
//!
//! Conversion to float32 is exact. Every screen also returns the squared norm of the row in float32: it is
//! at most `65504^2 d`, so it is finite exactly when the row is. NaN and infinities cannot pass unseen.
//!
//! Queries run across the lanes: a panel holds 32 of them transposed (`[d][32]`), and the row-major float32
//! rows are the broadcast operand, so the database needs no packing. A tile is 12 rows by 32 queries: 24
//! AVX-512 accumulators, or four passes with 12 AVX2 accumulators each.

use half::f16;

use crate::error::Result;
use crate::level::{self, Level};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

pub use super::tiles::PANEL;
/// Rows in a tile.
pub const TILE: usize = 12;
/// Most queries [`Kernels::few`] takes at once.
pub const FEW: usize = 8;

/// Per query of a panel, which screened scores are let through: `score >= threshold - slope * norm`.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Limits {
    /// `-inf` lets everything through, `+inf` nothing (unused lanes).
    pub threshold: [f32; PANEL],
    /// Error of the screen per unit of row norm.
    pub slope: [f32; PANEL],
}

/// The screened scores of a tile and which of them pass the limits.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Tile {
    /// `[row][query]`.
    pub scores: [[f32; PANEL]; TILE],
    /// Bit `j` of `hits[i]`: row `i` passes the limit of query `j`.
    pub hits: [u32; TILE],
}

impl Default for Tile {
    fn default() -> Self {
        Self { scores: [[0.0; PANEL]; TILE], hits: [0; TILE] }
    }
}

/// The arguments of a tile: 12 rows, `stride` floats apart, against one panel.
#[derive(Debug, Clone, Copy)]
struct Operands<'a> {
    rows: &'a [f32],
    stride: usize,
    panel: &'a [f32],
    norms: &'a [f32; TILE],
    limits: &'a Limits,
    narrow: bool,
}

type Few = unsafe fn(&[f16], usize, &[f32], usize, usize, &mut [[f32; FEW]], &mut [f32]);

/// The kernels of one level. Having one proves that the machine can run it.
#[derive(Debug)]
pub struct Kernels {
    level: Level,
    widen: unsafe fn(&[f16], &mut [f32]) -> f32,
    tile: unsafe fn(Operands<'_>, &mut Tile),
    few: Few,
    dot: unsafe fn(&[f16], &[f64]) -> (f64, f32),
}

/// One line a level.
static TABLE: &[Kernels] = &[
    Kernels {
        level: Level::Scalar,
        widen: scalar::widen,
        tile: scalar::tile,
        few: scalar::few,
        dot: scalar::dot,
    },
    #[cfg(target_arch = "x86_64")]
    Kernels { level: Level::Avx2, widen: avx2::widen, tile: avx2::tile, few: avx2::few, dot: avx2::dot },
    #[cfg(target_arch = "x86_64")]
    Kernels {
        level: Level::Avx512,
        widen: avx512::widen,
        tile: avx512::tile,
        few: avx512::few,
        dot: avx512::dot,
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

    /// Converts a row to float32, exactly, and returns its squared norm (in float32, at most `d + 8`
    /// roundings a term), which is finite exactly when the row is.
    ///
    /// # Panics
    /// If `out` is shorter than the row.
    pub fn widen(&self, row: &[f16], out: &mut [f32]) -> f32 {
        // SAFETY: a `Kernels` is only handed out where its level is available.
        unsafe { (self.widen)(row, &mut out[..row.len()]) }
    }

    /// Screens 12 rows against a panel of 32 queries.
    ///
    /// `rows` holds 12 float32 rows, `stride` apart, `panel` is `[d][32]`; with `narrow` only the first 16
    /// queries are computed (the hits of the others are 0, their scores undefined).
    ///
    /// # Panics
    /// If `rows` is too short for 12 rows of `panel.len() / 32` values.
    #[expect(clippy::too_many_arguments, reason = "the operands of a matrix kernel")]
    pub fn tile(
        &self,
        rows: &[f32],
        stride: usize,
        panel: &[f32],
        norms: &[f32; TILE],
        limits: &Limits,
        narrow: bool,
        out: &mut Tile,
    ) {
        let depth = panel.len() / PANEL;
        assert!(stride >= depth && rows.len() >= (TILE - 1) * stride + depth, "a tile needs 12 rows");
        // SAFETY: the level is available, and the rows and the panel are as long as the kernel reads.
        unsafe { (self.tile)(Operands { rows, stride, panel, norms, limits, narrow }, out) }
    }

    /// Screens contiguous rows of `depth` values against 1 to 8 queries: `scores[i][j]` for row `i`, query `j`,
    /// and the squared norms of the rows as in [`Self::widen`].
    ///
    /// Query `j` starts at `queries[j * stride]` and is padded with zeros up to `stride`, a multiple of 16; there is
    /// room for `count` queries, rounded up to a power of two.
    ///
    /// # Panics
    /// If a length does not fit.
    #[expect(clippy::too_many_arguments, reason = "the operands of a matrix kernel")]
    pub fn few(
        &self,
        rows: &[f16],
        depth: usize,
        queries: &[f32],
        stride: usize,
        count: usize,
        scores: &mut [[f32; FEW]],
        norms: &mut [f32],
    ) {
        assert!(depth > 0 && rows.len() == depth * norms.len() && scores.len() == norms.len(), "whole rows");
        assert!(
            (1..=FEW).contains(&count) && stride >= depth && stride.is_multiple_of(16),
            "1 to 8 padded queries"
        );
        assert!(queries.len() >= count.next_power_of_two() * stride, "room for 1, 2, 4 or 8 queries");
        // SAFETY: the level is available, and all lengths are as the kernel reads and writes.
        unsafe { (self.few)(rows, depth, queries, stride, count, scores, norms) }
    }

    /// The inner product in float64 and the squared norm of the row as in [`Self::widen`]; each term of the product
    /// takes part in at most `d + 8` roundings, the terms themselves are exact.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn dot(&self, row: &[f16], query: &[f64]) -> (f64, f32) {
        assert_eq!(row.len(), query.len(), "an inner product needs equal lengths");
        // SAFETY: the level is available, and both slices are equally long.
        unsafe { (self.dot)(row, query) }
    }
}

/// Exact conversion in plain integer and float operations.
pub fn to_f32(value: f16) -> f32 {
    scalar::to_f32(value)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small dyadic numbers are exact")]
mod tests;
