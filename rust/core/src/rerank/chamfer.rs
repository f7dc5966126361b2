//! Asymmetric Chamfer similarity of binary descriptors.

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
