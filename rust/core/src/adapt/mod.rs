//! Adaptation: an affine map of every row, `y = A (x - m) + b`, normalised or reduced to signs.
//!
//! Linear layers, whitenings and binarisations are such maps. What a row becomes depends on that row alone and on a
//! fixed order of operations (`kernels::affine`; norms are float64 sums of 16 lanes): it is the same, bit for bit,
//! for every CPU level, number of threads and way to cut the rows into blocks.

mod layer;
mod output;

pub use layer::{Input, Layer, Length};
pub use output::{Halves, Output, Signs, Vectors};
