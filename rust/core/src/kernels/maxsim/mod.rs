//! The largest inner product of every query descriptor over an image's descriptors (`MaxSim`), in float32.
//!
//! ```text
//! maximum(i) = max over j of sum over k of q_i[k] * x_j[k]
//! ```
//!
//! A lane is a query: the panel of sixteen queries is transposed once, and a database value is broadcast to all
//! lanes. Each inner product is one chain of fused multiply-adds in the order of `k`, so every CPU level gives the
//! same bits, and its error is at most `d * 2^-24 * sum of |q x|` to first order.
//!
//! [`Precision::Bfloat16`] rounds both sides to bfloat16 first (a relative error of at most 2^-8 in `q x`, to first
//! order). Products are exact then, and their sum is float32 as above. Where the CPU multiplies bfloat16 pairs
//! (`AVX512_BF16`) that is used at the avx512 level; it adds in another order, so low bits differ from the other levels.
//!
//! | level | tile of queries x database descriptors |
//! |---|---|
//! | scalar | 16 x 1 |
//! | avx2 | 16 x 6 |
//! | avx512 | 64 x 6 |

mod avx2;
mod avx512;
mod scalar;

use rayon::prelude::*;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::level::{self, Level};

/// Queries a group.
pub const LANES: usize = 16;
/// Database descriptors a tile; images are padded to a multiple of it by repeating their last.
const ROWS: usize = 6;

/// Multiplications that are done in one piece: some tenths of a second without vectors, a few milliseconds with.
const SHORT: usize = 1 << 28;
/// Queries of a part of a longer search: a whole tile of every level.
const PART: usize = 64;

/// One value of sixteen queries.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Lane([f32; LANES]);

/// What inner products are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// float32.
    #[default]
    Float32,
    /// Both sides rounded to bfloat16, sums in float32.
    Bfloat16,
}

/// Query descriptors, transposed once and then compared with any number of images.
#[derive(Debug)]
pub struct FloatQueries {
    len: usize,
    dimension: usize,
    level: Level,
    precision: Precision,
    panel: Panel,
}

#[derive(Debug)]
enum Panel {
    /// Value `k` of the queries of group `g` is element `g * dimension + k`; missing queries are zero.
    Floats(Vec<Lane>),
    /// Values `2 p` (low half) and `2 p + 1` as bfloat16, element `g * pairs + p`.
    #[cfg(target_arch = "x86_64")]
    Pairs(Vec<avx512::PairLane>),
}

/// Buffers kept between images, and the result of the last.
#[derive(Debug, Default)]
pub struct FloatScratch {
    rows: Vec<f32>,
    pairs: Vec<u32>,
    maxima: Vec<f32>,
    len: usize,
}

impl FloatScratch {
    /// The largest inner product of every query descriptor; negative infinity if the image has none.
    pub fn maxima(&self) -> &[f32] {
        &self.maxima[..self.len]
    }
}

/// The nearest bfloat16 of a finite float32, ties to even, as a float32; may round to infinity.
fn round_to_bfloat16(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits(bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000)
}

impl FloatQueries {
    /// Transposes `descriptors`, rows of `dimension` finite values.
    pub fn new(descriptors: &[f32], dimension: usize, precision: Precision) -> Result<Self> {
        let level = level::active()?;
        let pairs = precision == Precision::Bfloat16 && level == Level::Avx512 && has_bfloat16();
        Self::at(descriptors, dimension, precision, level, pairs)
    }

    fn at(
        descriptors: &[f32],
        dimension: usize,
        precision: Precision,
        level: Level,
        pairs: bool,
    ) -> Result<Self> {
        let len = check("query descriptors", descriptors.len(), dimension)?;
        let groups = len.div_ceil(LANES);
        let mut panel = vec![Lane([0.0; LANES]); groups * dimension];
        for (group, panel) in descriptors.chunks(LANES * dimension).zip(panel.chunks_exact_mut(dimension)) {
            for (lane, row) in group.chunks_exact(dimension).enumerate() {
                for (values, &value) in panel.iter_mut().zip(row) {
                    values.0[lane] =
                        if precision == Precision::Bfloat16 { round_to_bfloat16(value) } else { value };
                }
            }
        }
        let panel = if pairs { pair_up(&panel, dimension) } else { Panel::Floats(panel) };
        Ok(Self { len, dimension, level, precision, panel })
    }

    /// Number of query descriptors.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no query descriptors.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Finds the largest inner product of every query descriptor over the rows of `descriptors`; on the threads of the
    /// current pool, if there is one and much to do.
    pub fn maxima(&self, descriptors: &[f32], scratch: &mut FloatScratch, control: &Control) -> Result<()> {
        let rows = check("database descriptors", descriptors.len(), self.dimension)?;
        scratch.len = self.len;
        scratch.maxima.clear();
        scratch.maxima.resize(self.len.next_multiple_of(LANES), f32::NEG_INFINITY);
        if rows == 0 || self.len == 0 {
            return Ok(());
        }
        let FloatScratch { rows: padded, pairs, maxima, .. } = scratch;
        padded.clear();
        padded.extend_from_slice(descriptors);
        for _ in rows..rows.next_multiple_of(ROWS) {
            padded.extend_from_within(padded.len() - self.dimension..);
        }
        if self.precision == Precision::Bfloat16 {
            for value in padded.iter_mut() {
                *value = round_to_bfloat16(*value);
            }
        }
        let width = self.dimension.div_ceil(self.values());
        #[cfg(target_arch = "x86_64")]
        if let Panel::Pairs(_) = self.panel {
            pairs.clear();
            for row in padded.chunks_exact(self.dimension) {
                let (whole, rest) = row.as_chunks::<2>();
                pairs.extend(whole.iter().map(|&[low, high]| pair(low, high)));
                pairs.extend(rest.iter().map(|&low| pair(low, 0.0)));
            }
        }
        let (padded, pairs) = (&*padded, &*pairs);
        let count = padded.len() / self.dimension;
        if self.len.saturating_mul(count).saturating_mul(self.dimension) <= SHORT {
            self.part(0, padded, pairs, maxima);
            return control.check();
        }
        // Of two zeros the later counts, as within a part.
        let rows = (SHORT / (PART * ROWS * self.dimension)).max(1) * ROWS;
        let part = |(part, maxima): (usize, &mut [f32])| {
            let mut later = [f32::NEG_INFINITY; PART];
            for start in (0..count).step_by(rows) {
                control.check()?;
                let rows = start..count.min(start + rows);
                let floats = &padded[rows.start * self.dimension..rows.end * self.dimension];
                let pairs =
                    if pairs.is_empty() { pairs } else { &pairs[rows.start * width..rows.end * width] };
                let found = &mut later[..maxima.len()];
                found.fill(f32::NEG_INFINITY);
                self.part(part * PART, floats, pairs, found);
                for (best, &found) in maxima.iter_mut().zip(&*found) {
                    *best = if *best > found { *best } else { found };
                }
            }
            Ok(())
        };
        if rayon::current_thread_index().is_some() {
            maxima.par_chunks_mut(PART).enumerate().try_for_each(part)
        } else {
            maxima.chunks_mut(PART).enumerate().try_for_each(part)
        }
    }

    /// Values in an element of the panel.
    fn values(&self) -> usize {
        match self.panel {
            Panel::Floats(_) => 1,
            #[cfg(target_arch = "x86_64")]
            Panel::Pairs(_) => 2,
        }
    }

    /// The maxima of the queries from `first`, as many as `out` has places: whole groups; `out` is negative infinity.
    fn part(&self, first: usize, rows: &[f32], pairs: &[u32], out: &mut [f32]) {
        let length = self.dimension.div_ceil(self.values());
        let groups = first / LANES * length..(first + out.len()) / LANES * length;
        match (&self.panel, self.level) {
            (Panel::Floats(panel), Level::Scalar) => scalar::maxima(&panel[groups], length, rows, out),
            // SAFETY: the level was active, so this machine can run it.
            #[cfg(target_arch = "x86_64")]
            (Panel::Floats(panel), Level::Avx2) => unsafe { avx2::maxima(&panel[groups], length, rows, out) },
            // SAFETY: the level was active, so this machine can run it.
            #[cfg(target_arch = "x86_64")]
            (Panel::Floats(panel), Level::Avx512) => unsafe {
                avx512::maxima(&panel[groups], length, rows, out);
            },
            // SAFETY: such a panel is made only where the CPU has AVX-512 and AVX512_BF16.
            #[cfg(target_arch = "x86_64")]
            (Panel::Pairs(panel), _) => unsafe {
                avx512::maxima_of_pairs(&panel[groups], length, pairs, out);
            },
            #[cfg(not(target_arch = "x86_64"))]
            (Panel::Floats(_), _) => {
                let _ = pairs;
                unreachable!("not available on this architecture")
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_bfloat16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bfloat16() -> bool {
    false
}

/// Two values that are bfloat16 already, in one word.
fn pair(low: f32, high: f32) -> u32 {
    (low.to_bits() >> 16) | (high.to_bits() & 0xFFFF_0000)
}

#[cfg(target_arch = "x86_64")]
fn pair_up(panel: &[Lane], dimension: usize) -> Panel {
    let mut pairs = Vec::with_capacity(panel.len().div_ceil(2));
    for group in panel.chunks_exact(dimension) {
        for values in group.chunks(2) {
            let high = values.get(1).map_or([0.0; LANES], |lane| lane.0);
            pairs.push(avx512::PairLane(std::array::from_fn(|l| pair(values[0].0[l], high[l]))));
        }
    }
    Panel::Pairs(pairs)
}

#[cfg(not(target_arch = "x86_64"))]
fn pair_up(panel: &[Lane], _: usize) -> Panel {
    Panel::Floats(panel.to_vec())
}

/// The number of rows in `len` values, or an error if they are not whole rows.
fn check(what: &str, len: usize, dimension: usize) -> Result<usize> {
    if dimension == 0 {
        return Err(Error::shape(what, "rows of at least one value", "0 values"));
    }
    if !len.is_multiple_of(dimension) {
        return Err(Error::shape(what, format!("a multiple of {dimension} values"), format!("{len} values")));
    }
    Ok(len / dimension)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u32, count: usize) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn exact(query: &[f32], rows: &[f32], dimension: usize) -> Vec<f64> {
        let dot =
            |q: &[f32], x: &[f32]| q.iter().zip(x).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        query
            .chunks_exact(dimension)
            .map(|q| rows.chunks_exact(dimension).map(|x| dot(q, x)).fold(f64::NEG_INFINITY, f64::max))
            .collect()
    }

    #[test]
    fn levels_agree_bit_for_bit_and_with_float64() {
        let mut scratch = FloatScratch::default();
        for (m, n, d) in
            [(1, 1, 1), (3, 7, 5), (16, 6, 8), (65, 13, 128), (130, 100, 33), (40, 0, 4), (0, 3, 4)]
        {
            let (query, rows) = (values(m as u32 + 1, m * d), values(n as u32 + 7, n * d));
            let expected = exact(&query, &rows, d);
            for precision in [Precision::Float32, Precision::Bfloat16] {
                let mut bits = Vec::new();
                for level in Level::available() {
                    let queries = FloatQueries::at(&query, d, precision, level, false).unwrap();
                    queries.maxima(&rows, &mut scratch, &Control::new()).unwrap();
                    bits.push(scratch.maxima().iter().map(|value| value.to_bits()).collect::<Vec<_>>());
                    let bound =
                        if precision == Precision::Float32 { 6e-8 * d as f64 } else { 2.0_f64.powi(-8) };
                    for (found, expected) in scratch.maxima().iter().zip(&expected) {
                        let error = (f64::from(*found) - expected).abs();
                        assert!(n == 0 || error <= bound * d as f64, "{level:?} {m} {n} {d}: {error}");
                    }
                }
                assert!(bits.iter().all(|other| *other == bits[0]), "{m} {n} {d}");
                assert_eq!(bits[0].len(), m);
            }
            if has_bfloat16() && Level::Avx512.is_available() {
                let at =
                    |pairs| FloatQueries::at(&query, d, Precision::Bfloat16, Level::Avx512, pairs).unwrap();
                at(false).maxima(&rows, &mut scratch, &Control::new()).unwrap();
                let reference = scratch.maxima().to_vec();
                at(true).maxima(&rows, &mut scratch, &Control::new()).unwrap();
                for (found, expected) in scratch.maxima().iter().zip(reference) {
                    assert!(n == 0 || (found - expected).abs() <= 1e-6 * d as f32, "{m} {n} {d}");
                }
            }
        }
    }

    #[test]
    fn bfloat16_rounds_to_nearest_even() {
        for (value, expected) in [
            (1.0, 1.0),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
            (-1.004, -1.0 - 2.0 / 256.0),
            (0.0, 0.0),
        ] {
            assert!((round_to_bfloat16(value) - expected).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn ragged_rows_are_refused() {
        assert!(FloatQueries::new(&[0.0; 7], 2, Precision::Float32).is_err());
        assert!(FloatQueries::new(&[], 0, Precision::Float32).is_err());
        let queries = FloatQueries::new(&[0.0; 8], 2, Precision::Float32).unwrap();
        assert!(queries.maxima(&[0.0; 3], &mut FloatScratch::default(), &Control::new()).is_err());
    }
}
