//! Inner products of vectors quantised to int8, and how vectors become so.
//!
//! * [`Kernels::rotate`]: signs and a Walsh-Hadamard transform in float32, block by block, not normalised. The
//!   butterflies have the same order on every level, so the result has the same bits.
//! * [`Kernels::quantise`]: codes in `[-limit, limit]` times a scale of at most 17 significant bits, so that
//!   code times scale is exact in float32, and each residual has one rounding.
//! * [`Kernels::subtract`]: takes away what rows have in common.
//! * [`Kernels::panel`], [`Kernels::few`]: which of the products of rows with many, or few, queries pass the limits of
//!   `search::bounds`; [`Kernels::scores`]: the products themselves. They are exact integers times the scale.
//!
//! Many queries run across the lanes: a panel is `[depth / 4][32][4]` codes plus an offset (unsigned), and the row-major
//! signed rows are the broadcast operand. Few queries run along the rows, which are then read at the speed of memory.
//! The products of the offset, `offset * (sum of the row's codes)`, are taken back. Sums are exact modulo 2^32,
//! and `127 * 127 * depth` is below 2^31 up to [`DEEPEST`].
//!
//! **No saturation.** VPDPBUSD adds four products to an int32 without saturation. VPMADDUBSW (AVX2) adds two products
//! in int16 with it: `2 * 127 * 127 = 32258` fits, so on that level queries are quantised to
//! [`Kernels::query_limit`] = 63, and are 0 to 127 after the offset of 64. Rows have 8 bits everywhere.

use std::ops::Range;

use crate::error::Result;
use crate::level::{self, Level};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

pub use super::dot_f16::FEW;
use super::tiles::{Hit, Limits, PANEL};

/// The depth of every operand is a multiple of this.
pub const STEP: usize = 64;
/// The greatest depth.
pub const DEEPEST: usize = 1 << 16;
/// The largest magnitude of a row's code.
pub const ROW_LIMIT: i8 = 127;
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

/// What [`Kernels::subtract`] says about a vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subtracted {
    /// How much more of the centre than once was subtracted; may be NaN or infinite.
    pub excess: f32,
    /// The squared norm of what is left, in float32: at most `length + 8` roundings a term.
    pub square: f32,
}

/// What is known about a quantised row: the sum of its codes, its scale, bounds of the norms of its residual and of itself,
/// and how much more of the centre than once was subtracted from it.
///
/// They lie side by side: every page of memory that a query looks at costs time.
pub type Facts = [f32; FACTS];
/// How many they are.
pub const FACTS: usize = 5;

/// Quantised rows.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Codes, rows `stride` apart, each magnitude at most [`ROW_LIMIT`].
    pub codes: &'a [i8],
    /// Distance of two rows.
    pub stride: usize,
    /// What is known about each row.
    pub facts: &'a [Facts],
}

impl<'a> Rows<'a> {
    /// Number of rows.
    pub const fn count(&self) -> usize {
        self.facts.len()
    }

    /// Some of the rows.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Rows<'a> {
        Rows {
            codes: &self.codes[(rows.start * self.stride).min(self.codes.len())..],
            stride: self.stride,
            facts: &self.facts[rows],
        }
    }

    /// What makes the products of a row with codes that have an offset those without.
    fn correction(&self, row: usize, offset: i32) -> i32 {
        (self.facts[row][0] as i32).wrapping_mul(-offset)
    }

    fn check(&self, depth: usize) {
        let count = self.count();
        assert!(
            count == 0 || self.stride >= depth && self.codes.len() >= (count - 1) * self.stride + depth,
            "{count} rows of {depth} codes"
        );
    }
}

/// Rows, a panel, its products with the centre, and where the scores go.
type Scores = unsafe fn(Rows<'_>, &[u8], &[f32; PANEL], &mut [[f32; PANEL]]);

/// The kernels of one level. Having one proves that the machine can run it.
#[derive(Debug)]
pub struct Kernels {
    level: Level,
    offset: i32,
    rotate: unsafe fn(&mut [f32], &[f32], usize),
    subtract: unsafe fn(&mut [f32], &[f32], f64) -> Subtracted,
    quantise: unsafe fn(&[f32], f32, &mut [i8]) -> Quantised,
    panel: unsafe fn(Rows<'_>, &[u8], bool, &Limits, &mut [Hit]) -> usize,
    scores: Scores,
    few: unsafe fn(Rows<'_>, &[u8], usize, &Limits, &mut [Hit]) -> usize,
}

/// The lines of the table: one a level.
macro_rules! kernels {
    ($level:ident, $module:ident) => {
        Kernels {
            level: Level::$level,
            offset: $module::OFFSET,
            rotate: $module::rotate,
            subtract: $module::subtract,
            quantise: $module::quantise,
            panel: $module::panel,
            scores: $module::scores,
            few: $module::few,
        }
    };
}

static TABLE: &[Kernels] = &[
    kernels!(Scalar, scalar),
    #[cfg(target_arch = "x86_64")]
    kernels!(Avx2, avx2),
    #[cfg(target_arch = "x86_64")]
    kernels!(Avx512, avx512),
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

    /// What is added to the codes of queries to make them unsigned.
    pub const fn offset(&self) -> i32 {
        self.offset
    }

    /// The largest magnitude that codes of queries may have.
    pub const fn query_limit(&self) -> i8 {
        (self.offset - 1) as i8
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

    /// Subtracts `centre`, of the given squared norm, from `values`, and then as much more of it as makes the rest
    /// perpendicular to it, but for rounding: each lane of 64 is a sum of its own, in any level's order.
    ///
    /// # Panics
    /// If the lengths differ or are not a multiple of 64.
    pub fn subtract(&self, values: &mut [f32], centre: &[f32], square: f64) -> Subtracted {
        assert!(values.len() == centre.len() && values.len().is_multiple_of(STEP), "whole steps");
        // SAFETY: the level is available, and both are equally long.
        unsafe { (self.subtract)(values, centre, square) }
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

    /// Writes the rows that pass the limit of some query of a panel of 32 to `hits`, in order, and returns their number.
    /// With `narrow`, the panel has no more than 16 queries, and the upper bits are 0.
    ///
    /// # Panics
    /// If the depth, `panel.len() / 32`, is no multiple of 64, or rows or hits are too few.
    pub fn panel(
        &self,
        rows: Rows<'_>,
        panel: &[u8],
        narrow: bool,
        limits: &Limits,
        hits: &mut [Hit],
    ) -> usize {
        let depth = Self::depth(panel);
        rows.check(depth);
        assert!(hits.len() >= rows.count() && u32::try_from(rows.count()).is_ok(), "room for all rows");
        // SAFETY: the level is available, and rows, panel and hits are as long as the kernel reads and writes.
        unsafe { (self.panel)(rows, panel, narrow, limits, hits) }
    }

    /// The screened scores of the rows with a panel of 32 queries, whose products with the centre are `centre`.
    ///
    /// # Panics
    /// As [`Self::panel`].
    pub fn scores(&self, rows: Rows<'_>, panel: &[u8], centre: &[f32; PANEL], scores: &mut [[f32; PANEL]]) {
        rows.check(Self::depth(panel));
        assert!(scores.len() >= rows.count(), "scores for all rows");
        // SAFETY: as above.
        unsafe { (self.scores)(rows, panel, centre, scores) }
    }

    /// As [`Self::panel`] for 1 to 8 queries one after the other.
    ///
    /// # Panics
    /// If the depth, `queries.len() / count`, is no multiple of 64, or rows or hits are too few.
    pub fn few(
        &self,
        rows: Rows<'_>,
        queries: &[u8],
        count: usize,
        limits: &Limits,
        hits: &mut [Hit],
    ) -> usize {
        assert!((1..=FEW).contains(&count) && queries.len().is_multiple_of(count), "1 to 8 queries");
        let depth = queries.len() / count;
        assert!(depth.is_multiple_of(STEP) && depth <= DEEPEST, "whole steps");
        rows.check(depth);
        assert!(hits.len() >= rows.count() && u32::try_from(rows.count()).is_ok(), "room for all rows");
        // SAFETY: the level is available, and rows, queries and hits are as long as the kernel reads and writes.
        unsafe { (self.few)(rows, queries, count, limits, hits) }
    }

    fn depth(panel: &[u8]) -> usize {
        let depth = panel.len() / PANEL;
        assert!(panel.len().is_multiple_of(STEP * PANEL) && depth <= DEEPEST, "whole steps");
        depth
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
