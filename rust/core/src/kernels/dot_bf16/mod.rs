//! Inner products of vectors rounded to bfloat16: twice the products of float32 an instruction, without a rotation.
//!
//! * [`Kernels::round`], [`Kernels::round_halves`]: float32 or float16 to bfloat16, to nearest even; relative error 2^-8,
//!   where neither is subnormal.
//! * [`Kernels::panel`]: which products of rows with many queries pass the limits of `search::bounds`;
//!   [`Kernels::scores`]: the products themselves, accumulated in float32.
//!
//! Layouts are those of `dot_i8`, with pairs of bfloat16 in place of four bytes: a panel is `[depth / 2][32][2]`.
//!
//! **Roundings.** VDPBF16PS multiplies two pairs and adds both products to a float32, with a rounding after each
//! step, and treats subnormal inputs and results as zeros. A term takes part in at most `2 depth + 16` roundings of
//! relative size 2^-24, and each step loses at most 2^-126 where it underflows.

use half::f16;

use crate::error::Result;
use crate::kernels::tiles::{Hit, Limits, PANEL};
use crate::level::{self, Level};

#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

/// The depth of every operand is a multiple of this.
pub const STEP: usize = 32;

/// Rounded rows.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Bit patterns, rows `stride` apart.
    pub values: &'a [u16],
    /// Distance of two rows.
    pub stride: usize,
    /// Bounds of the norms of the rows before they were rounded.
    pub norms: &'a [f32],
}

impl Rows<'_> {
    /// Number of rows.
    pub const fn count(&self) -> usize {
        self.norms.len()
    }

    fn check(&self, panel: &[u16]) {
        let (count, depth) = (self.count(), panel.len() / PANEL);
        assert!(panel.len().is_multiple_of(STEP * PANEL), "whole steps");
        assert!(
            count == 0 || self.stride >= depth && self.values.len() >= (count - 1) * self.stride + depth,
            "{count} rows of {depth} values"
        );
    }
}

/// Memory that is fetched while something else is computed: a hint, of which nothing is read.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    first: *const i8,
    bytes: usize,
}

type Panel = unsafe fn(Rows<'_>, &[u16], bool, &Limits, &mut [Hit], Ahead) -> usize;

/// The kernels of one level. Having one proves that the machine can run it.
#[derive(Debug)]
pub struct Kernels {
    level: Level,
    round: unsafe fn(&[f32], &mut [u16]),
    round_halves: unsafe fn(&[f16], &mut [u16]) -> f32,
    panel: Panel,
    scores: unsafe fn(Rows<'_>, &[u16], &mut [[f32; PANEL]]),
}

static SCALAR: Kernels = Kernels {
    level: Level::Scalar,
    round: scalar::round,
    round_halves: scalar::round_halves,
    panel: scalar::panel,
    scores: scalar::scores,
};

#[cfg(target_arch = "x86_64")]
static AVX512: Kernels = Kernels {
    level: Level::Avx512,
    round: avx512::round,
    round_halves: avx512::round_halves,
    panel: avx512::panel,
    scores: avx512::scores,
};

impl Kernels {
    /// The kernels of the active level.
    pub fn active() -> Result<&'static Self> {
        Ok(Self::of(level::active()?))
    }

    /// The kernels of `level`: AVX-512 has them where there is AVX512-BF16, which is no part of the level; everything
    /// else has the reference.
    pub fn of(level: Level) -> &'static Self {
        #[cfg(target_arch = "x86_64")]
        if level == Level::Avx512 && level.is_available() && is_x86_feature_detected!("avx512bf16") {
            return &AVX512;
        }
        let _ = level;
        &SCALAR
    }

    /// Whether there are instructions for it.
    pub fn is_fast(&self) -> bool {
        self.level != Level::Scalar
    }

    /// Rounds finite values to bfloat16.
    ///
    /// # Panics
    /// If the length is not a multiple of 32 or the places are fewer.
    pub fn round(&self, values: &[f32], rounded: &mut [u16]) {
        assert!(values.len().is_multiple_of(STEP), "whole steps");
        // SAFETY: a `Kernels` is only handed out where its instructions are available; there is a place for each value.
        unsafe { (self.round)(values, &mut rounded[..values.len()]) }
    }

    /// Rounds float16 values to bfloat16 and returns the sum of their squares, in float32: it is not finite if a value is
    /// not, and no term takes part in more than `len + 16` roundings.
    ///
    /// # Panics
    /// As [`Self::round`].
    pub fn round_halves(&self, values: &[f16], rounded: &mut [u16]) -> f32 {
        assert!(values.len().is_multiple_of(STEP), "whole steps");
        // SAFETY: as above.
        unsafe { (self.round_halves)(values, &mut rounded[..values.len()]) }
    }

    /// Writes the rows that pass the limit of some query of a panel of 32 to `hits`, in order, and returns their number.
    /// With `narrow`, the panel has no more than 16 queries, and the upper bits are 0. Limits without residuals are used.
    /// The values `ahead` are on their way into the second-level cache when it returns.
    ///
    /// # Panics
    /// If the depth, `panel.len() / 32`, is no multiple of 32, or rows or hits are too few.
    pub fn panel<T>(
        &self,
        rows: Rows<'_>,
        panel: &[u16],
        narrow: bool,
        limits: &Limits,
        hits: &mut [Hit],
        ahead: &[T],
    ) -> usize {
        let ahead = Ahead { first: ahead.as_ptr().cast(), bytes: size_of_val(ahead) };
        rows.check(panel);
        assert!(hits.len() >= rows.count() && u32::try_from(rows.count()).is_ok(), "room for all rows");
        // SAFETY: the instructions are available, and rows, panel and hits are as long as the kernel reads and writes.
        unsafe { (self.panel)(rows, panel, narrow, limits, hits, ahead) }
    }

    /// The screened scores of the rows with a panel of 32 queries.
    ///
    /// # Panics
    /// As [`Self::panel`].
    pub fn scores(&self, rows: Rows<'_>, panel: &[u16], scores: &mut [[f32; PANEL]]) {
        rows.check(panel);
        assert!(scores.len() >= rows.count(), "scores for all rows");
        // SAFETY: as above.
        unsafe { (self.scores)(rows, panel, scores) }
    }
}

#[cfg(test)]
mod tests;
