//! Chamfer similarity of binary descriptors.

use crate::error::Result;
use crate::kernels::nearest::{QueryBlock, Scratch};

/// The sum over query descriptors of the largest `1 - 2 * hamming / bits` over database descriptors.
///
/// With `m` query descriptors and the sum `h` of smallest distances this is `m - 2 h / bits`; 0 if either image is
/// empty. The numerator is an exact integer. Its float64 quotient is rounded to float32, which equals rounding the
/// true quotient once: a fraction with a denominator of at most 512 that is no float32 midpoint differs from every
/// midpoint by a relative 2^-34, more than float64 rounds away.
pub fn similarity(block: &QueryBlock, database: &[u8], scratch: &mut Scratch) -> Result<f32> {
    block.distances(database, scratch)?;
    if block.is_empty() || database.is_empty() {
        return Ok(0.0);
    }
    let bits = 8 * block.bytes() as i64;
    let sum: i64 = scratch.distances().iter().map(|&distance| i64::from(distance)).sum();
    Ok(((block.len() as i64 * bits - 2 * sum) as f64 / bits as f64) as f32)
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
) -> Result<f32> {
    let bytes = block.bytes();
    let backward = |scratch: &mut Scratch| similarity(&QueryBlock::new(database, bytes)?, query, scratch);
    match direction {
        Direction::Query => similarity(block, database, scratch),
        Direction::Database => backward(scratch),
        Direction::Symmetric if query.is_empty() || database.is_empty() => Ok(0.0),
        Direction::Symmetric => {
            let (m, n) = (block.len() as f64, (database.len() / bytes) as f64);
            let forward = f64::from(similarity(block, database, scratch)?);
            Ok((0.5 * (forward / m + f64::from(backward(scratch)?) / n)) as f32)
        }
    }
}
