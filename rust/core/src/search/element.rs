//! The types of values a database can hold, and what screens and scores need of them.

use half::f16;

use crate::kernels::dot_f16::Kernels;

/// The types a database of vectors can hold. Their products with float32 are exact in float64.
pub trait Element: Copy + Send + Sync + 'static {
    /// The screen sees no larger magnitude than this.
    const LARGEST: f64;
    /// The value in float64.
    fn to_f64(self) -> f64;
    /// Writes the row for the screen and returns an upper bound of its norm: infinite for a row
    /// the screen cannot handle (it is then written as zeros), NaN for a row that is not finite.
    fn widen(kernels: &Kernels, row: &[Self], growth: f64, out: &mut [f32]) -> f32;
    /// The inner product and the squared norm of the row, as [`Kernels::dot`].
    fn dot(kernels: &Kernels, row: &[Self], query: &[f64]) -> (f64, f64);
    /// The rows as float16, if that is what they are: then there is a screen for few queries.
    fn halves(rows: &[Self]) -> Option<&[f16]>;
}

/// The norm, rounded up, from a squared norm that is too small by at most the factor `growth`.
pub fn norm(square: f32, growth: f64) -> f32 {
    if square.is_finite() { ((f64::from(square) * growth).sqrt() as f32).next_up() } else { f32::NAN }
}

impl Element for f16 {
    const LARGEST: f64 = 65504.0;

    fn to_f64(self) -> f64 {
        f64::from(crate::kernels::dot_f16::to_f32(self))
    }

    fn widen(kernels: &Kernels, row: &[Self], growth: f64, out: &mut [f32]) -> f32 {
        norm(kernels.widen(row, out), growth)
    }

    fn dot(kernels: &Kernels, row: &[Self], query: &[f64]) -> (f64, f64) {
        let (sum, square) = kernels.dot(row, query);
        (sum, f64::from(square))
    }

    fn halves(rows: &[Self]) -> Option<&[f16]> {
        Some(rows)
    }
}

impl Element for f32 {
    /// 2^60: squares and sums of up to 2^60 of them stay finite.
    const LARGEST: f64 = 1_152_921_504_606_846_976.0;

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn widen(_: &Kernels, row: &[Self], _: f64, out: &mut [f32]) -> f32 {
        let (mut squares, mut largest) = ([0.0_f64; 8], 0.0_f32);
        for values in row.chunks(8) {
            for (square, &x) in squares.iter_mut().zip(values) {
                *square += f64::from(x) * f64::from(x);
                largest = largest.max(x.abs());
            }
        }
        let square: f64 = squares.iter().sum();
        if !square.is_finite() {
            f32::NAN
        } else if f64::from(largest) > Self::LARGEST {
            out[..row.len()].fill(0.0);
            f32::INFINITY
        } else {
            out[..row.len()].copy_from_slice(row);
            // Relative error of the float64 sum: below 2^-20 for any row of less than 2^32 values.
            ((square * (1.0 + 2.0_f64.powi(-20))).sqrt() as f32).next_up()
        }
    }

    fn dot(_: &Kernels, row: &[Self], query: &[f64]) -> (f64, f64) {
        let (mut sums, mut squares) = ([0.0_f64; 8], [0.0_f64; 8]);
        for (values, queries) in row.chunks(8).zip(query.chunks(8)) {
            for ((x, query), (sum, square)) in
                values.iter().zip(queries).zip(sums.iter_mut().zip(&mut squares))
            {
                let x = f64::from(*x);
                *sum += x * query;
                *square += x * x;
            }
        }
        (sums.iter().sum(), squares.iter().sum())
    }

    fn halves(_: &[Self]) -> Option<&[f16]> {
        None
    }
}
