//! A map ready to be applied, and the loop over rows.

use std::sync::Mutex;

use half::f16;

use super::output::Output;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::affine::{self, Operands, PANEL, TILE};
use crate::kernels::{aligned::Aligned, dot_f16};

/// Values of the rows of a block: what fits the second level of the cache beside a panel.
const BLOCK: usize = 96 << 10;
/// Most rows in a block, a multiple of those in a tile.
const MOST: usize = 16 * TILE;
/// Rows further apart by this many values: at a power of two apart they would share sets of the cache.
const APART: usize = 16;

/// Numbers that rows are made of.
pub trait Input: Copy + Sync {
    /// The exact float32 values of a row.
    fn widen(kernels: &dot_f16::Kernels, row: &[Self], out: &mut [f32]);
}

impl Input for f16 {
    fn widen(kernels: &dot_f16::Kernels, row: &[Self], out: &mut [f32]) {
        kernels.widen(row, out);
    }
}

impl Input for f32 {
    fn widen(_: &dot_f16::Kernels, row: &[Self], out: &mut [f32]) {
        out[..row.len()].copy_from_slice(row);
    }
}

/// A row is divided by `max(norm + added, least)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Length {
    /// Added to the norm.
    pub added: f32,
    /// What is divided by, at least.
    pub least: f32,
}

impl Length {
    fn apply(self, norm: f64, row: &mut [f32]) {
        let divisor = (norm as f32 + self.added).max(self.least);
        if divisor.is_normal() {
            for value in row {
                *value /= divisor;
            }
        } else {
            // A norm beyond float32, as of two values near its end, or below what it holds to full precision.
            let divisor = (norm + f64::from(self.added)).max(f64::from(self.least));
            for value in row {
                *value = (f64::from(*value) / divisor) as f32;
            }
        }
    }
}

/// `y = A (x - m) + b`, with the row normalised before or after, if wanted.
#[derive(Debug)]
pub struct Layer {
    depth: usize,
    width: usize,
    /// `[width / 32][depth][32]`, zeros beyond the width.
    panels: Aligned<f32>,
    bias: Vec<[f32; PANEL]>,
    mean: Option<Vec<f32>>,
    before: Option<Length>,
    after: Option<Length>,
}

/// What a thread works in.
struct Workspace {
    rows: Aligned<f32>,
    results: Aligned<f32>,
}

impl Layer {
    /// Packs a layer: `weight` is `[width][depth]`, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] for extents that do not fit each other or are 0, [`Error::NonFinite`].
    pub fn new(
        weight: &[f32],
        depth: usize,
        bias: Option<&[f32]>,
        mean: Option<&[f32]>,
        before: Option<Length>,
        after: Option<Length>,
    ) -> Result<Self> {
        if depth == 0 || weight.is_empty() || !weight.len().is_multiple_of(depth) {
            let found = format!("{} values in rows of {depth}", weight.len());
            return Err(Error::shape("weight", "at least one row of at least one value", found));
        }
        let width = weight.len() / depth;
        for (what, values, expected) in [("bias", bias, width), ("mean", mean, depth)] {
            if let Some(values) = values.filter(|values| values.len() != expected) {
                return Err(Error::shape(what, format!("{expected} values"), values.len().to_string()));
            }
            finite(what, values.unwrap_or_default(), expected, 0)?;
        }
        finite("weight", weight, depth, 0)?;
        let count = width.div_ceil(PANEL);
        let mut panels = Aligned::zeros(count * depth * PANEL);
        for (output, weights) in weight.chunks_exact(depth).enumerate() {
            let panel = &mut panels.as_mut_slice()[output / PANEL * depth * PANEL..][..depth * PANEL];
            for (place, weight) in panel.iter_mut().skip(output % PANEL).step_by(PANEL).zip(weights) {
                *place = *weight;
            }
        }
        let mut padded = vec![[0.0; PANEL]; count];
        padded.as_flattened_mut()[..width].copy_from_slice(bias.unwrap_or(&vec![0.0; width]));
        Ok(Self { depth, width, panels, bias: padded, mean: mean.map(<[f32]>::to_vec), before, after })
    }

    /// Values of a row.
    pub const fn depth(&self) -> usize {
        self.depth
    }

    /// Outputs of a row.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Maps rows, `depth` values each, to as many rows of `out`; counts rows as progress.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NonFinite`] for a row (or a result beyond float32), [`Error::Interrupted`].
    pub fn apply<T: Input, O: Output>(
        &self,
        rows: &[T],
        out: &mut [O::Item],
        control: &Control,
    ) -> Result<()> {
        let places = O::places(self.width);
        if !rows.len().is_multiple_of(self.depth) || out.len() != rows.len() / self.depth * places {
            let expected = format!("rows of {} values and {places} places each", self.depth);
            return Err(Error::shape("rows", expected, format!("{} and {}", rows.len(), out.len())));
        }
        let (kernels, widening) = (affine::Kernels::active()?, dot_f16::Kernels::active()?);
        let stride = self.depth.next_multiple_of(APART) + APART;
        let size = (BLOCK / stride / TILE * TILE).clamp(TILE, MOST);
        let blocks = rows.chunks(size * self.depth).zip(out.chunks_mut(size * places)).enumerate();
        let (blocks, failure) = (Mutex::new(blocks), Mutex::new(None));
        let width = self.bias.len() * PANEL + APART;
        rayon::broadcast(|_| {
            let mut space =
                Workspace { rows: Aligned::zeros(size * stride), results: Aligned::zeros(size * width) };
            loop {
                let next = blocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                let Some((block, (rows, out))) = next else { return };
                let result = control.advance((rows.len() / self.depth) as u64).and_then(|()| {
                    self.prepare(rows, &mut space, stride, widening, block * size)?;
                    self.multiply(rows.len() / self.depth, &mut space, stride, width, kernels);
                    self.finish::<O>(out, &mut space, width, block * size)
                });
                if let Err(error) = result {
                    // Without an iterator left, the others stop too; of two errors the first row's is told.
                    let mut failure = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if failure.as_ref().is_none_or(|(earlier, _)| block < *earlier) {
                        *failure = Some((block, error));
                    }
                    return;
                }
                if failure.lock().is_ok_and(|failure| failure.is_some()) {
                    return;
                }
            }
        });
        failure.into_inner().ok().flatten().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Widens, normalises and centres the rows of a block.
    fn prepare<T: Input>(
        &self,
        rows: &[T],
        space: &mut Workspace,
        stride: usize,
        kernels: &dot_f16::Kernels,
        first: usize,
    ) -> Result<()> {
        let places = space.rows.as_mut_slice().chunks_exact_mut(stride);
        for (number, (row, place)) in rows.chunks_exact(self.depth).zip(places).enumerate() {
            T::widen(kernels, row, &mut place[..self.depth]);
            // What is beyond the depth stays 0, so that whole lanes can be summed.
            let norm = norm(place);
            if !norm.is_finite() {
                finite("vectors", &place[..self.depth], self.depth, first + number)?;
            }
            if let Some(length) = self.before {
                length.apply(norm, &mut place[..self.depth]);
            }
            if let Some(mean) = &self.mean {
                place.iter_mut().zip(mean).for_each(|(value, mean)| *value -= mean);
            }
        }
        Ok(())
    }

    /// Multiplies the rows of a block, panel by panel.
    fn multiply(
        &self,
        count: usize,
        space: &mut Workspace,
        stride: usize,
        width: usize,
        kernels: &affine::Kernels,
    ) {
        let (rows, results) = (space.rows.as_slice(), space.results.as_mut_slice());
        let panels = self.panels.as_slice().chunks_exact(self.depth * PANEL);
        for (number, (panel, bias)) in panels.zip(&self.bias).enumerate() {
            for first in (0..count).step_by(TILE) {
                let operands = Operands { rows: &rows[first * stride..], stride, panel, bias };
                kernels.tile(operands, &mut results[first * width + number * PANEL..], width);
            }
        }
    }

    /// Normalises the results of a block and hands them out.
    fn finish<O: Output>(
        &self,
        out: &mut [O::Item],
        space: &mut Workspace,
        width: usize,
        first: usize,
    ) -> Result<()> {
        let results = space.results.as_mut_slice().chunks_exact_mut(width);
        for (number, (out, result)) in out.chunks_exact_mut(O::places(self.width)).zip(results).enumerate() {
            let norm = norm(&result[..self.bias.len() * PANEL]);
            let result = &mut result[..self.width];
            if !norm.is_finite() {
                finite("adapted vectors", result, self.width, first + number)?;
            }
            if let Some(length) = self.after {
                length.apply(norm, result);
            }
            O::put(result, out);
        }
        Ok(())
    }
}

/// The Euclidean norm: a float64 sum in 16 lanes, whatever the CPU.
fn norm(row: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; 16];
    for values in row.chunks_exact(16) {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    lanes.iter().sum::<f64>().sqrt()
}

/// An error that names the first value that is not finite.
fn finite(what: &str, values: &[f32], columns: usize, first: usize) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::NonFinite {
            what: what.to_owned(),
            row: first + at / columns,
            column: at % columns,
            value: values[at],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::{Halves, Signs, Vectors};

    fn numbers(length: usize, seed: u32) -> Vec<f32> {
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        };
        let mut state = seed;
        std::iter::from_fn(|| next(&mut state)).take(length).collect()
    }

    const UNIT: Length = Length { added: 0.0, least: 1e-12 };

    #[test]
    fn rows_become_what_the_formula_says() {
        for (count, depth, width) in [(1, 1, 1), (13, 7, 40), (300, 40, 33), (25, 9000, 5)] {
            let (rows, weight) = (numbers(count * depth, 1), numbers(width * depth, 2));
            let (bias, mean) = (numbers(width, 3), numbers(depth, 4));
            let layer = Layer::new(&weight, depth, Some(&bias), Some(&mean), Some(UNIT), Some(UNIT)).unwrap();
            let mut found = vec![0.0; count * width];
            layer.apply::<_, Vectors>(&rows, &mut found, &Control::new()).unwrap();
            let mut halves = vec![f16::ZERO; count * width];
            layer.apply::<_, Halves>(&rows, &mut halves, &Control::new()).unwrap();
            assert!(halves.iter().zip(&found).all(|(half, value)| *half == f16::from_f32(*value)));
            let mut bits = vec![0_u8; count * width.div_ceil(8)];
            layer.apply::<_, Signs>(&rows, &mut bits, &Control::new()).unwrap();
            for (row, values) in rows.chunks_exact(depth).enumerate() {
                let length = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                let exact: Vec<f64> = (0..width)
                    .map(|j| {
                        let terms = values.iter().zip(&mean).zip(&weight[j * depth..]);
                        let sum: f64 = terms
                            .map(|((x, m), w)| (f64::from(*x) / length - f64::from(*m)) * f64::from(*w))
                            .sum();
                        sum + f64::from(bias[j])
                    })
                    .collect();
                let length = exact.iter().map(|y| y * y).sum::<f64>().sqrt();
                for j in 0..width {
                    let ours = found[row * width + j];
                    assert!((f64::from(ours) - exact[j] / length).abs() < 1e-4, "{count} {depth} {width}");
                    let bit = bits[row * width.div_ceil(8) + j / 8] >> (7 - j % 8) & 1;
                    assert_eq!(bit == 1, ours >= 0.0);
                }
            }
        }
    }

    #[test]
    fn rows_of_any_length_become_unit_vectors() {
        let exact = Length { added: 0.0, least: 0.0 };
        let identity = [1.0, 0.0, 0.0, 1.0];
        for (before, after) in [(Some(exact), None), (None, Some(exact))] {
            let layer = Layer::new(&identity, 2, None, None, before, after).unwrap();
            for scale in [1e-45_f32, 1e-42, 1e-38, 1e-30, 1e-19, 1.0, 1e19, 1e38, f32::MAX] {
                let mut found = [0.0; 2];
                layer.apply::<_, Vectors>(&[scale, -scale], &mut found, &Control::new()).unwrap();
                let half = std::f32::consts::FRAC_1_SQRT_2;
                assert!(
                    (found[0] - half).abs() < 1e-6 && (found[1] + half).abs() < 1e-6,
                    "{scale}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn bits_depend_on_nothing_but_the_row() {
        let (count, depth, width) = (500, 70, 45);
        let rows: Vec<f16> = numbers(count * depth, 5).into_iter().map(f16::from_f32).collect();
        let layer = Layer::new(&numbers(width * depth, 6), depth, None, None, None, Some(UNIT)).unwrap();
        let apply = |rows: &[f16], threads| {
            let mut out = vec![0.0; rows.len() / depth * width];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| layer.apply::<_, Vectors>(rows, &mut out, &Control::new())).unwrap();
            out
        };
        let whole = apply(&rows, 1);
        assert_eq!(apply(&rows, 3), whole);
        let parts: Vec<f32> = rows.chunks(7 * depth).flat_map(|part| apply(part, 2)).collect();
        assert_eq!(parts, whole);
        let wide: Vec<f32> = rows.iter().map(|x| x.to_f32()).collect();
        let mut out = vec![0.0; count * width];
        layer.apply::<_, Vectors>(&wide, &mut out, &Control::new()).unwrap();
        assert_eq!(out, whole);
    }

    #[test]
    fn bad_rows_and_layers_are_named() {
        let layer = Layer::new(&[1.0, 2.0], 2, None, None, None, Some(UNIT)).unwrap();
        let mut rows = vec![1.0_f32; 2 * 700];
        for at in [2 * 650 + 1, 2 * 300 + 1] {
            rows[at] = f32::NAN;
        }
        let message = |rows: &[f32], places: usize| {
            let mut out = vec![0.0; places];
            layer.apply::<_, Vectors>(rows, &mut out, &Control::new()).unwrap_err().to_string()
        };
        assert!(message(&rows, 700).contains("vectors: row 300, column 1 is NaN"), "{}", message(&rows, 700));
        assert!(message(&[3e38, 3e38], 1).contains("adapted vectors: row 0, column 0 is inf"));
        assert!(message(&[1.0; 3], 1).contains("rows of 2 values"));
        for weight in [&[][..], &[1.0; 3], &[f32::INFINITY, 1.0]] {
            assert!(Layer::new(weight, 2, None, None, None, None).is_err());
        }
        assert!(Layer::new(&[1.0; 4], 2, Some(&[1.0]), None, None, None).is_err());
        assert!(Layer::new(&[1.0; 4], 2, None, Some(&[1.0]), None, None).is_err());
        let stopped = Control::new();
        stopped.interrupt();
        let result = layer.apply::<_, Vectors>(&[1.0_f32, 2.0], &mut [0.0], &stopped);
        assert!(matches!(result, Err(Error::Interrupted)));
        let mut zero = [7.0];
        layer.apply::<_, Vectors>(&[0.0_f32, 0.0], &mut zero, &Control::new()).unwrap();
        assert_eq!(zero.map(f32::to_bits), [0]);
    }
}
