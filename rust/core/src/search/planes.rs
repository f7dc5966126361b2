//! Int8 planes: vectors rotated and quantised, with what the bound of the int8 screen needs to know about each.
//!
//! Rows and queries are multiplied with random signs and transformed by Walsh-Hadamard, which spreads large
//! coordinates, and then quantised to 8 bits with a scale a row. What the rows have in common, their mean, is subtracted
//! before, as often as leaves what is perpendicular to it: a query's product with it is the same for all, and of what is left,
//! in rows and in queries, the 8 bits tell more. Planes are made block by
//! block while a database streams by, or once for a database that is searched often ([`OwnedPlanes`], or derived tensors of a store).

use rayon::prelude::*;

use super::bounds::{growth, residual, rotated_norm};
use super::database::Matrix;
use super::element::Element;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_f16;
use crate::kernels::dot_i8::{DEEPEST, FACTS, Facts, Kernels, ROW_LIMIT, Rows, STEP};

/// Seed of the random signs.
pub const SEED: u64 = 0x1a5_fa57;

/// Which of the facts about a row is the bound of its norm.
const NORM: usize = 3;

/// Rows that a thread quantises between two looks at the control.
const CHUNK: usize = 1024;

/// Rows whose mean is the centre, as far as there are so many.
pub const CENTRED: usize = 512;

/// A centre is subtracted if its square is at least this part of those of the rows; below, nothing is gained by it.
const LEAST_SHARE: f64 = 1.0 / 32.0;

/// A centre with a smaller norm is none: products with it could underflow.
const LEAST_CENTRE: f64 = 1.0 / (1_u64 << 40) as f64;

/// Random signs, 1 or -1 (splitmix64).
fn signs(count: usize) -> Vec<f32> {
    let mut state = SEED;
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            if mixed >> 63 == 0 { 1.0 } else { -1.0 }
        })
        .collect()
}

/// How vectors of a length are rotated and quantised.
#[derive(Debug)]
pub struct Quantiser {
    /// The int8 kernels.
    pub(super) kernels: &'static Kernels,
    floats: &'static dot_f16::Kernels,
    signs: Vec<f32>,
    transform: usize,
    columns: usize,
    growth: f64,
    /// What is subtracted from rotated rows, some multiple of it: zeros, or about their mean. And its squared norm.
    centre: Vec<f32>,
    square: f64,
}

impl Quantiser {
    /// For vectors of `columns` values, without a centre; None if they are empty or too long for int8.
    pub fn new(columns: usize) -> Result<Option<Self>> {
        let padded = Self::depth(columns);
        if padded == 0 || padded > DEEPEST {
            return Ok(None);
        }
        Ok(Some(Self {
            kernels: Kernels::active()?,
            floats: dot_f16::Kernels::active()?,
            signs: signs(padded),
            transform: 1 << padded.trailing_zeros(),
            columns,
            growth: growth(columns),
            centre: vec![0.0; padded],
            square: 0.0,
        }))
    }

    /// Subtracts `centre`, finite values of a rotated vector, from rotated rows, as often as leaves what is perpendicular to it.
    ///
    /// # Panics
    /// Unless it is as long as a rotated row.
    #[must_use]
    pub fn around(mut self, centre: &[f32]) -> Self {
        self.centre.copy_from_slice(centre);
        self.square = centre.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        if self.square.sqrt() < LEAST_CENTRE {
            self.centre.fill(0.0);
            self.square = 0.0;
        }
        self
    }

    /// Subtracts the mean of some of the rows, if it is large enough to gain by it. Rows that are not finite do not count.
    #[must_use]
    pub fn around_mean<'r, T: Element>(self, rows: impl Iterator<Item = &'r [T]>) -> Self {
        let (mut sums, mut widened) = (vec![0.0; self.columns], vec![0.0; self.columns]);
        let (mut count, mut squares) = (0.0, 0.0);
        for row in rows {
            let norm = f64::from(T::widen(self.floats, row, self.growth, &mut widened));
            if norm.is_finite() {
                count += 1.0;
                squares += norm * norm;
                sums.iter_mut().zip(&widened).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        }
        let square: f64 = sums.iter().map(|sum| sum * sum).sum();
        if count == 0.0 || square / count < LEAST_SHARE * squares {
            return self;
        }
        let mut centre = vec![0.0; self.padded()];
        centre.iter_mut().zip(&sums).for_each(|(place, sum)| *place = (sum / count) as f32);
        self.rotate(&mut centre);
        self.around(&centre)
    }

    /// What is subtracted from rotated rows, once and some more or less.
    pub fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// Codes of a row of `columns` values.
    pub const fn depth(columns: usize) -> usize {
        columns.next_multiple_of(STEP)
    }

    /// Codes of a row.
    pub fn padded(&self) -> usize {
        self.signs.len()
    }

    /// Values of a row.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// Length of a transform: the largest power of two that divides the padded length.
    pub const fn transform(&self) -> usize {
        self.transform
    }

    /// Rotates `padded()` values.
    pub fn rotate(&self, values: &mut [f32]) {
        self.kernels.rotate(values, &self.signs, self.transform);
    }

    /// Quantises a row; `scratch` and `codes` have `padded()` places. The norm, of the row less its part along the centre and
    /// before the rotation, with a share of the excess, is NaN if the row is not finite.
    pub fn quantise<T: Element>(&self, row: &[T], scratch: &mut [f32], codes: &mut [i8]) -> Facts {
        let norm = T::widen(self.floats, row, self.growth, &mut scratch[..row.len()]);
        scratch[row.len()..].fill(0.0);
        self.rotate(scratch);
        // An infinite norm lets a row through, whatever its codes.
        let (mut norm, mut excess) = (norm, 0.0);
        if self.square > 0.0 && norm.is_finite() {
            let left = self.kernels.subtract(scratch, &self.centre, self.square);
            if left.excess.is_finite() {
                excess = left.excess;
                let subtracted = f64::from(excess.abs()) * self.square.sqrt();
                norm = rotated_norm(left.square, self.padded(), self.transform, subtracted);
            } else {
                scratch.fill(0.0);
                norm = f32::INFINITY;
            }
        }
        let quantised = self.kernels.quantise(scratch, ROW_LIMIT, codes);
        let residual = residual(quantised.square, self.padded());
        // The sum is below 2^24.
        [quantised.sum as f32, quantised.scale, residual, norm, excess]
    }
}

/// The planes of consecutive rows of `columns` values.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    rows: Rows<'a>,
    columns: usize,
    centre: &'a [f32],
}

impl<'a> Planes<'a> {
    /// Codes without gaps, the facts about each row, and what was subtracted from the rotated rows.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths do not fit, [`Error::NonFinite`] for a centre.
    pub fn new(columns: usize, codes: &'a [i8], facts: &'a [Facts], centre: &'a [f32]) -> Result<Self> {
        let stride = Quantiser::depth(columns);
        if Some(codes.len()) != facts.len().checked_mul(stride) {
            let expected = format!("{} rows of {stride} codes", facts.len());
            return Err(Error::shape("planes", expected, format!("{} codes", codes.len())));
        }
        if centre.len() != stride {
            let expected = format!("{stride} values");
            return Err(Error::shape("centre of planes", expected, format!("{} values", centre.len())));
        }
        if let Some(column) = centre.iter().position(|value| !value.is_finite()) {
            return Err(Error::NonFinite { what: "centre".into(), row: 0, column, value: centre[column] });
        }
        Ok(Self { rows: Rows { codes, stride, facts }, columns, centre })
    }

    /// Number of rows.
    pub const fn rows(&self) -> usize {
        self.rows.count()
    }

    /// Values of a row.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    pub(super) const fn as_rows(&self) -> Rows<'a> {
        self.rows
    }

    /// What was subtracted from the rotated rows.
    pub const fn centre(&self) -> &'a [f32] {
        self.centre
    }
}

/// Planes in memory.
#[derive(Debug, Clone, Default)]
pub struct OwnedPlanes {
    rows: usize,
    columns: usize,
    codes: Aligned<i8>,
    /// Five a row.
    facts: Aligned,
    centre: Vec<f32>,
}

impl OwnedPlanes {
    /// Zeros for `rows` rows.
    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            codes: Aligned::zeros(rows * Quantiser::depth(columns)),
            facts: Aligned::zeros(rows * FACTS),
            centre: Vec::new(),
        }
    }

    /// Quantises a matrix around its mean on the current thread pool. Rows done are counted on `control`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for rows without or with too many values, [`Error::NonFinite`] naming a row, [`Error::Interrupted`].
    pub fn build<T: Element>(matrix: Matrix<'_, T>, control: &Control) -> Result<Self> {
        let step = (matrix.rows() / CENTRED).max(1);
        let some = (0..matrix.rows()).step_by(step).map(|row| matrix.row(row));
        Self::of(matrix, 0, &quantiser(matrix.columns())?.around_mean(some), control)
    }

    /// Quantises a matrix whose first row is row `first` of a database. Rows done are counted on `control`.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming a row, [`Error::Interrupted`].
    pub(super) fn of<T: Element>(
        matrix: Matrix<'_, T>,
        first: usize,
        quantiser: &Quantiser,
        control: &Control,
    ) -> Result<Self> {
        let mut planes = Self::zeros(matrix.rows(), matrix.columns());
        planes.centre.extend_from_slice(quantiser.centre());
        let depth = quantiser.padded();
        planes.codes.as_mut_slice()[..matrix.rows() * depth]
            .par_chunks_mut(CHUNK * depth)
            .zip(planes.facts.as_mut_slice().as_chunks_mut().0.par_chunks_mut(CHUNK))
            .enumerate()
            .try_for_each(|(chunk, (codes, facts))| {
                let mut scratch = vec![0.0; depth];
                for (i, (codes, facts)) in codes.chunks_exact_mut(depth).zip(facts.iter_mut()).enumerate() {
                    let number = chunk * CHUNK + i;
                    let values = matrix.row(number);
                    *facts = quantiser.quantise(values, &mut scratch, codes);
                    if facts[NORM].is_nan() {
                        return Err(non_finite(first + number, values));
                    }
                }
                control.advance(facts.len() as u64)
            })?;
        Ok(planes)
    }

    /// Fills in a row; returns the bound of its norm.
    pub(super) fn set<T: Element>(
        &mut self,
        at: usize,
        quantiser: &Quantiser,
        values: &[T],
        scratch: &mut [f32],
    ) -> f32 {
        let depth = quantiser.padded();
        let codes = &mut self.codes.as_mut_slice()[at * depth..][..depth];
        let facts = &mut self.facts.as_mut_slice().as_chunks_mut::<FACTS>().0[at];
        *facts = quantiser.quantise(values, scratch, codes);
        facts[NORM]
    }

    /// Copies rows.
    pub(super) fn copy(&mut self, at: usize, rows: Rows<'_>) {
        let (depth, count) = (Quantiser::depth(self.columns), rows.count());
        self.codes.as_mut_slice()[at * depth..][..count * depth]
            .copy_from_slice(&rows.codes[..count * depth]);
        self.facts.as_mut_slice().as_chunks_mut().0[at..at + count].copy_from_slice(rows.facts);
    }

    /// The first `count` rows.
    pub(super) fn head(&self, count: usize) -> Rows<'_> {
        self.as_planes().rows.slice(0..count)
    }

    /// What a search takes.
    pub fn as_planes(&self) -> Planes<'_> {
        let stride = Quantiser::depth(self.columns);
        let codes = &self.codes.as_slice()[..self.rows * stride];
        let facts = &self.facts.as_slice().as_chunks().0[..self.rows];
        let rows = Rows { codes, stride, facts };
        Planes { rows, columns: self.columns, centre: &self.centre }
    }
}

/// How vectors of `columns` values are quantised.
///
/// # Errors
/// [`Error::Parameter`] for none or too many.
pub(super) fn quantiser(columns: usize) -> Result<Quantiser> {
    Quantiser::new(columns)?.ok_or_else(|| {
        Error::parameter("columns of a database with int8 planes", format!("1 to {DEEPEST}"), columns)
    })
}

/// The error for a row that is not finite.
pub fn non_finite<T: Element>(row: usize, values: &[T]) -> Error {
    let column = values.iter().position(|value| !value.to_f64().is_finite()).unwrap_or(0);
    let value = values.get(column).map_or(f32::NAN, |value| value.to_f64() as f32);
    Error::NonFinite { what: "database".into(), row, column, value }
}
