//! Inner products of vectors quantised to int8, and how vectors become so.
//!
//! * [`Kernels::rotate`]: signs and a Walsh-Hadamard transform in float32, block by block, not normalised. The
//!   butterflies have the same order on every level, so the result has the same bits.
//! * [`Kernels::quantise`]: codes in `[-limit, limit]` times a scale of at most 17 significant bits, so that
//!   code times scale is exact in float32, and each residual has one rounding.
//! * [`Kernels::tile`]: the products of 12 rows with 32 queries, exact integers, and which of them pass the
//!   limits of `search::bounds`.
//!
//! Queries run across the lanes: a panel is `[depth / 4][32][4]` codes plus 128 (unsigned), and the row-major signed
//! rows are the broadcast operand. A sum starts at `-128 * (sum of the row's codes)`, which takes the offset
//! back. Sums are exact modulo 2^32, and `127 * 127 * depth` is below 2^31 up to [`DEEPEST`].
//!
//! **No saturation.** VPDPBUSD adds four products to an int32 without saturation. VPMADDUBSW (AVX2) adds two products
//! in int16 with it: `2 * 255 * limit <= 32767` only for `limit <= 64`, so that level quantises rows to
//! [`Kernels::limit`] = 63 (queries, being 0 to 255 after the offset, keep 8 bits).

use crate::error::Result;
use crate::level::{self, Level};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

pub use super::dot_f16::{PANEL, TILE};

/// The depth of every operand is a multiple of this.
pub const STEP: usize = 64;
/// The greatest depth.
pub const DEEPEST: usize = 1 << 16;
/// The largest magnitude of a query's code.
pub const QUERY_LIMIT: i8 = 127;
/// Vectors with a smaller peak are not quantised: their codes and their scale are 0.
pub const LEAST_PEAK: f32 = 1.0 / (1_u64 << 40) as f32;
/// Vectors with a larger peak are not quantised either.
pub const LARGEST_PEAK: f32 = (1_u128 << 90) as f32;

/// What [`Kernels::quantise`] says about a vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantised {
    /// The vector is about `scale` times its codes.
    pub scale: f32,
    /// The squared norm of what is left, in float32: at most `depth + 8` roundings a term; infinite on overflow.
    pub square: f32,
    /// The sum of the codes.
    pub sum: i32,
}

/// What a tile needs to know about its rows.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Codes, `stride` apart, each magnitude at most [`Kernels::limit`].
    pub codes: &'a [i8],
    /// Distance of two rows.
    pub stride: usize,
    /// The sums of their codes.
    pub sums: &'a [i32; TILE],
    /// Their scales.
    pub scales: &'a [f32; TILE],
    /// Bounds of the norms of their residuals.
    pub residuals: &'a [f32; TILE],
    /// Bounds of their norms.
    pub norms: &'a [f32; TILE],
}

/// Per query of a panel, which products are let through:
/// `scale * product >= threshold - residual * residual norm - norm * norm`.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Limits {
    /// `-inf` lets everything through, `+inf` nothing (unused lanes).
    pub threshold: [f32; PANEL],
    /// Error per unit of residual norm.
    pub residual: [f32; PANEL],
    /// Error per unit of row norm.
    pub norm: [f32; PANEL],
}

/// The products of a tile and which of them pass the limits.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Tile {
    /// `[row][query]`.
    pub products: [[i32; PANEL]; TILE],
    /// Bit `j` of `hits[i]`: row `i` passes the limit of query `j`.
    pub hits: [u32; TILE],
}

impl Default for Tile {
    fn default() -> Self {
        Self { products: [[0; PANEL]; TILE], hits: [0; TILE] }
    }
}

/// The kernels of one level. Having one proves that the machine can run it.
#[derive(Debug)]
pub struct Kernels {
    level: Level,
    limit: i8,
    rotate: unsafe fn(&mut [f32], &[f32], usize),
    quantise: unsafe fn(&[f32], f32, &mut [i8]) -> Quantised,
    tile: unsafe fn(Rows<'_>, &[u8], &Limits, &mut Tile),
}

/// One line a level.
static TABLE: &[Kernels] = &[
    Kernels {
        level: Level::Scalar,
        limit: 127,
        rotate: scalar::rotate,
        quantise: scalar::quantise,
        tile: scalar::tile,
    },
    #[cfg(target_arch = "x86_64")]
    Kernels {
        level: Level::Avx2,
        limit: 63,
        rotate: avx2::rotate,
        quantise: avx2::quantise,
        tile: avx2::tile,
    },
    #[cfg(target_arch = "x86_64")]
    Kernels {
        level: Level::Avx512,
        limit: 127,
        rotate: avx512::rotate,
        quantise: avx512::quantise,
        tile: avx512::tile,
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

    /// The largest magnitude that codes of rows may have.
    pub const fn limit(&self) -> i8 {
        self.limit
    }

    /// Multiplies with `signs` (1 or -1), then transforms each `block` values (a power of two, at least 64).
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn rotate(&self, values: &mut [f32], signs: &[f32], block: usize) {
        assert!(block.is_power_of_two() && block >= STEP, "blocks are powers of two");
        assert!(values.len() == signs.len() && values.len().is_multiple_of(block), "whole blocks");
        // SAFETY: a `Kernels` is only handed out where its level is available; lengths are checked.
        unsafe { (self.rotate)(values, signs, block) }
    }

    /// Quantises finite values to codes of magnitude at most `limit`.
    ///
    /// # Panics
    /// If the length is not a multiple of 64 or the codes are fewer.
    pub fn quantise(&self, values: &[f32], limit: i8, codes: &mut [i8]) -> Quantised {
        assert!(values.len().is_multiple_of(STEP) && limit > 0, "whole steps");
        // SAFETY: the level is available, and there is a code for each value.
        unsafe { (self.quantise)(values, f32::from(limit), &mut codes[..values.len()]) }
    }

    /// The products of 12 rows with a panel of 32 queries, and which pass the limits.
    ///
    /// # Panics
    /// If `rows` is too short for 12 rows of `panel.len() / 32` codes, or the depth not a multiple of 64.
    pub fn tile(&self, rows: Rows<'_>, panel: &[u8], limits: &Limits, out: &mut Tile) {
        let depth = panel.len() / PANEL;
        assert!(panel.len().is_multiple_of(STEP * PANEL) && depth <= DEEPEST, "whole steps");
        assert!(
            rows.stride >= depth && rows.codes.len() >= (TILE - 1) * rows.stride + depth,
            "a tile needs 12 rows"
        );
        // SAFETY: the level is available, and the rows and the panel are as long as the kernel reads.
        unsafe { (self.tile)(rows, panel, limits, out) }
    }
}

/// The scale for a peak: at least `peak / limit`, with at most 17 significant bits; None if the peak is out of
/// range. Times 127 it has at most 24 bits.
fn scale(peak: f32, limit: f32) -> Option<f32> {
    (LEAST_PEAK..=LARGEST_PEAK).contains(&peak).then(|| {
        // Adding 2^7 - 1 units in the last place and clearing 7 bits rounds up, across powers of two as well.
        f32::from_bits(((peak / limit).to_bits() + 0x7f) & !0x7f)
    })
}

#[cfg(test)]
mod tests;
