//! Int8 planes: vectors rotated and quantised, with what the bound of the int8 screen needs to know about each.
//!
//! Rows and queries are multiplied with random signs and transformed by Walsh-Hadamard, which spreads large
//! coordinates, and then quantised to 8 bits with a scale a row. What the rows have in common, their mean, is subtracted
//! before: a query's product with it is the same for all, and of what is left the 8 bits tell more. Planes are made block by
//! block while a database streams by, or once for a database that is searched often ([`OwnedPlanes`], or derived tensors of a store).

use rayon::prelude::*;

use super::bounds::{growth, residual, rotated_norm};
use super::database::Matrix;
use super::element::Element;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_f16;
use crate::kernels::dot_i8::{DEEPEST, Kernels, ROW_LIMIT, Rows, STEP};

/// Seed of the random signs.
pub const SEED: u64 = 0x1a5_fa57;

/// Rows that a thread quantises between two looks at the control.
const CHUNK: usize = 1024;

/// Rows whose mean is the centre, as far as there are so many.
pub const CENTRED: usize = 512;

/// A centre is subtracted if its square is at least this part of those of the rows; below, nothing is gained by it.
const LEAST_SHARE: f64 = 1.0 / 32.0;

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
    /// What is subtracted from rotated rows: zeros, or about their mean.
    centre: Vec<f32>,
    centred: bool,
}

/// What is known about a quantised row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The sum of the codes.
    pub sum: i32,
    /// The row is about `scale` times its codes.
    pub scale: f32,
    /// A bound of the norm of the rest.
    pub residual: f32,
    /// A bound of the norm of the row less the centre, before the rotation; NaN if the row is not finite.
    pub norm: f32,
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
            centred: false,
        }))
    }

    /// Subtracts `centre`, finite values of a rotated vector, from rotated rows.
    ///
    /// # Panics
    /// Unless it is as long as a rotated row.
    #[must_use]
    pub fn around(mut self, centre: &[f32]) -> Self {
        self.centre.copy_from_slice(centre);
        self.centred = centre.iter().any(|&value| value != 0.0);
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

    /// What is subtracted from rotated rows.
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

    /// Quantises a row; `scratch` and `codes` have `padded()` places.
    pub fn quantise<T: Element>(&self, row: &[T], scratch: &mut [f32], codes: &mut [i8]) -> Row {
        let norm = T::widen(self.floats, row, self.growth, &mut scratch[..row.len()]);
        scratch[row.len()..].fill(0.0);
        self.rotate(scratch);
        // An infinite norm lets a row through, whatever its codes.
        let norm = if self.centred && norm.is_finite() {
            rotated_norm(subtract(scratch, &self.centre), self.padded(), self.transform)
        } else {
            norm
        };
        let quantised = self.kernels.quantise(scratch, ROW_LIMIT, codes);
        let residual = residual(quantised.square, self.padded());
        Row { sum: quantised.sum, scale: quantised.scale, residual, norm }
    }
}

/// Subtracts a centre; returns the squared norm of what is left, in float32.
fn subtract(values: &mut [f32], centre: &[f32]) -> f32 {
    let mut squares = [0.0; STEP];
    for (values, centre) in values.chunks_exact_mut(STEP).zip(centre.chunks_exact(STEP)) {
        for ((value, centre), square) in values.iter_mut().zip(centre).zip(&mut squares) {
            *value -= centre;
            *square += *value * *value;
        }
    }
    squares.iter().sum()
}

/// The planes of consecutive rows of `columns` values.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    rows: Rows<'a>,
    columns: usize,
    centre: &'a [f32],
}

impl<'a> Planes<'a> {
    /// Codes without gaps, one value of each kind a row, and what was subtracted from the rotated rows.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths do not fit, [`Error::NonFinite`] for a centre.
    pub fn new(
        columns: usize,
        codes: &'a [i8],
        sums: &'a [i32],
        scales: &'a [f32],
        residuals: &'a [f32],
        norms: &'a [f32],
        centre: &'a [f32],
    ) -> Result<Self> {
        let (count, stride) = (sums.len(), Quantiser::depth(columns));
        let found = [scales.len(), residuals.len(), norms.len(), codes.len()];
        if Some(codes.len()) != count.checked_mul(stride) || found[..3] != [count; 3] {
            let expected = format!("{count} rows of {stride} codes with a scale, a residual and a norm each");
            return Err(Error::shape(
                "planes",
                expected,
                format!("scales, residuals, norms, codes: {found:?}"),
            ));
        }
        if centre.len() != stride {
            let expected = format!("{stride} values");
            return Err(Error::shape("centre of planes", expected, format!("{} values", centre.len())));
        }
        if let Some(column) = centre.iter().position(|value| !value.is_finite()) {
            return Err(Error::NonFinite { what: "centre".into(), row: 0, column, value: centre[column] });
        }
        Ok(Self { rows: Rows { codes, stride, sums, scales, residuals, norms }, columns, centre })
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
    columns: usize,
    codes: Aligned<i8>,
    sums: Vec<i32>,
    scales: Vec<f32>,
    residuals: Vec<f32>,
    norms: Vec<f32>,
    centre: Vec<f32>,
}

impl OwnedPlanes {
    /// Zeros for `rows` rows.
    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            columns,
            codes: Aligned::zeros(rows * Quantiser::depth(columns)),
            sums: vec![0; rows],
            scales: vec![0.0; rows],
            residuals: vec![0.0; rows],
            norms: vec![0.0; rows],
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
        let Self { codes, sums, scales, residuals, norms, .. } = &mut planes;
        codes.as_mut_slice()[..matrix.rows() * depth]
            .par_chunks_mut(CHUNK * depth)
            .zip(sums.par_chunks_mut(CHUNK).zip(scales.par_chunks_mut(CHUNK)))
            .zip(residuals.par_chunks_mut(CHUNK).zip(norms.par_chunks_mut(CHUNK)))
            .enumerate()
            .try_for_each(|(chunk, ((codes, (sums, scales)), (residuals, norms)))| {
                let mut scratch = vec![0.0; depth];
                for (i, codes) in codes.chunks_exact_mut(depth).enumerate() {
                    let number = chunk * CHUNK + i;
                    let values = matrix.row(number);
                    let row = quantiser.quantise(values, &mut scratch, codes);
                    if row.norm.is_nan() {
                        return Err(non_finite(first + number, values));
                    }
                    (sums[i], scales[i], residuals[i], norms[i]) =
                        (row.sum, row.scale, row.residual, row.norm);
                }
                control.advance(sums.len() as u64)
            })?;
        Ok(planes)
    }

    /// Fills in a row.
    pub(super) fn set<T: Element>(
        &mut self,
        at: usize,
        quantiser: &Quantiser,
        values: &[T],
        scratch: &mut [f32],
    ) -> Row {
        let depth = quantiser.padded();
        let row = quantiser.quantise(values, scratch, &mut self.codes.as_mut_slice()[at * depth..][..depth]);
        (self.sums[at], self.scales[at], self.residuals[at], self.norms[at]) =
            (row.sum, row.scale, row.residual, row.norm);
        row
    }

    /// Copies rows.
    pub(super) fn copy(&mut self, at: usize, rows: Rows<'_>) {
        let (depth, places) = (Quantiser::depth(self.columns), at..at + rows.count());
        self.codes.as_mut_slice()[at * depth..][..rows.count() * depth]
            .copy_from_slice(&rows.codes[..rows.count() * depth]);
        self.sums[places.clone()].copy_from_slice(rows.sums);
        self.scales[places.clone()].copy_from_slice(rows.scales);
        self.residuals[places.clone()].copy_from_slice(rows.residuals);
        self.norms[places].copy_from_slice(rows.norms);
    }

    /// The first `count` rows.
    pub(super) fn head(&self, count: usize) -> Rows<'_> {
        self.as_planes().rows.slice(0..count)
    }

    /// What a search takes.
    pub fn as_planes(&self) -> Planes<'_> {
        let stride = Quantiser::depth(self.columns);
        let rows = Rows {
            codes: &self.codes.as_slice()[..self.sums.len() * stride],
            stride,
            sums: &self.sums,
            scales: &self.scales,
            residuals: &self.residuals,
            norms: &self.norms,
        };
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
