//! Chamfer similarity of binary and of float descriptors.

use half::f16;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::dot_f16::Kernels;
use crate::kernels::maxsim::{FloatQueries, FloatScratch, Precision};
use crate::kernels::nearest::{FAR, QueryBlock, Scratch};

/// The sum over query descriptors of the largest `1 - 2 * hamming / bits` over database descriptors.
///
/// With `m` query descriptors and the sum `h` of smallest distances this is `m - 2 h / bits`; 0 if either image is
/// empty. The numerator is an exact integer. Its float64 quotient is rounded to float32, which equals rounding the
/// true quotient once: a fraction with a denominator of at most 512 that is no float32 midpoint differs from every
/// midpoint by a relative 2^-34, more than float64 rounds away.
pub fn similarity(
    block: &QueryBlock,
    database: &[u8],
    scratch: &mut Scratch,
    control: &Control,
) -> Result<f32> {
    block.distances(database, scratch, control)?;
    Ok(of_distances(scratch.distances(), block.bytes()))
}

/// [`similarity`] from the distance of each query descriptor to the nearest database descriptor, of codes of `bytes`;
/// 0 without database descriptors, which is [`FAR`] from each.
pub fn of_distances(distances: &[u16], bytes: usize) -> f32 {
    if distances.first().is_none_or(|&first| first == FAR) {
        return 0.0;
    }
    let bits = 8 * bytes as i64;
    let sum: i64 = distances.iter().map(|&distance| i64::from(distance)).sum();
    ((distances.len() as i64 * bits - 2 * sum) as f64 / bits as f64) as f32
}

/// Whose descriptors look for their nearest on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// The query's: the sum over query descriptors, [`similarity`].
    #[default]
    Query,
    /// The database image's: the sum over database descriptors.
    Database,
    /// Both: the mean of the two sums, each divided by its number of descriptors; from -1 to 1.
    Symmetric,
}

/// [`similarity`] in any direction; `query` holds the codes of `block`. 0 if either image is empty.
pub fn directed(
    query: &[u8],
    block: &QueryBlock,
    database: &[u8],
    direction: Direction,
    scratch: &mut Scratch,
    control: &Control,
) -> Result<f32> {
    let bytes = block.bytes();
    let backward =
        |scratch: &mut Scratch| similarity(&QueryBlock::new(database, bytes)?, query, scratch, control);
    match direction {
        Direction::Query => similarity(block, database, scratch, control),
        Direction::Database => backward(scratch),
        Direction::Symmetric if query.is_empty() || database.is_empty() => Ok(0.0),
        Direction::Symmetric => {
            let (m, n) = (block.len() as f64, (database.len() / bytes) as f64);
            let forward = f64::from(similarity(block, database, scratch, control)?);
            Ok((0.5 * (forward / m + f64::from(backward(scratch)?) / n)) as f32)
        }
    }
}

/// Buffers of [`float`], kept between images.
#[derive(Debug, Default)]
pub struct FloatWorkspace {
    values: Vec<f32>,
    scratch: FloatScratch,
}

/// A query of float descriptors, checked and laid out.
#[derive(Debug)]
pub struct FloatQuery<'a> {
    descriptors: &'a [f32],
    dimension: usize,
    precision: Precision,
    laid_out: FloatQueries,
}

impl<'a> FloatQuery<'a> {
    /// An error unless `descriptors` are rows of `dimension` finite values.
    pub fn new(descriptors: &'a [f32], dimension: usize, precision: Precision) -> Result<Self> {
        let laid_out = FloatQueries::new(descriptors, dimension, precision)?;
        check_finite("query descriptors", descriptors, dimension, 0)?;
        Ok(Self { descriptors, dimension, precision, laid_out })
    }

    /// Values a descriptor.
    pub fn dimension(&self) -> usize {
        self.dimension
    }
}

/// The Chamfer similarity of float descriptors: sums of the largest inner products, as [`directed`] of `1 - 2
/// hamming / bits`. 0 if either image is empty.
///
/// `first` is the row of the first of `descriptors`, for the message if a value is not finite.
pub fn float(
    query: &FloatQuery<'_>,
    descriptors: &[f16],
    first: usize,
    direction: Direction,
    workspace: &mut FloatWorkspace,
    control: &Control,
) -> Result<f32> {
    if query.laid_out.is_empty() || descriptors.is_empty() {
        return Ok(0.0);
    }
    let FloatWorkspace { values, scratch } = workspace;
    values.resize(descriptors.len(), 0.0);
    let squares = Kernels::active()?.widen(descriptors, values);
    if !squares.is_finite() {
        check_finite("descriptors", values, query.dimension, first)?;
    }
    let mut forward = || -> Result<f64> {
        query.laid_out.maxima(values, scratch, control)?;
        Ok(scratch.maxima().iter().map(|&value| f64::from(value)).sum())
    };
    if direction == Direction::Query {
        return Ok(forward()? as f32);
    }
    let m = query.laid_out.len() as f64;
    let ahead = if direction == Direction::Symmetric { forward()? / m } else { 0.0 };
    FloatQueries::new(values, query.dimension, query.precision)?.maxima(
        query.descriptors,
        scratch,
        control,
    )?;
    let back: f64 = scratch.maxima().iter().map(|&value| f64::from(value)).sum();
    let n = scratch.maxima().len() as f64;
    Ok(if direction == Direction::Database { back } else { 0.5 * (ahead + back / n) } as f32)
}

fn check_finite(what: &str, values: &[f32], dimension: usize, first: usize) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(i) => Err(Error::NonFinite {
            what: what.into(),
            row: first + i / dimension,
            column: i % dimension,
            value: values[i],
        }),
    }
}
