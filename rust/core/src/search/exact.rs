//! The canonical score: the exact inner product, rounded to float64 and then to float32.
//!
//! It does not depend on any order of summation, so every level, thread and chunk agrees on it. The fast
//! way is a float64 sum with an error bound: if both ends of the interval round to the same float32, that is
//! the answer. Otherwise (about one pair in 10^5 of ordinary data, all pairs of adversarial data) the terms,
//! which are exact in float64, are summed without error as `math.fsum` does.

#![expect(clippy::float_cmp, reason = "exact comparisons are what this is about")]

use super::element::Element;
use crate::kernels::dot_f16::Kernels;
use crate::kernels::dot_f64::{self, LANES};

/// Longer rows are summed without error at once: their norms in float32 are not precise enough.
const LONGEST: usize = 1 << 20;

/// A query in float64 with an upper bound of its norm.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The values.
    pub values: &'a [f64],
    /// At least their norm.
    pub norm: f64,
}

impl<'a> Query<'a> {
    /// Of float32 values, which are written to `exact`.
    pub fn widened(kernels: &dot_f64::Kernels, values: &[f32], exact: &'a mut [f64]) -> Self {
        let square = kernels.widen(values, exact);
        Self { norm: square.sqrt() * (1.0 + 2.0_f64.powi(-20)), values: &exact[..values.len()] }
    }
}

/// An upper bound of the norm of finite float32 values.
pub fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt() * (1.0 + 2.0_f64.powi(-20))
}

/// The canonical score of a row and a query.
pub fn score<T: Element>(kernels: &Kernels, row: &[T], query: Query<'_>) -> f32 {
    score_checked(kernels, row, query).0
}

/// [`score`], and whether the row is finite; if it is not, the score means nothing.
pub fn score_checked<T: Element>(kernels: &Kernels, row: &[T], query: Query<'_>) -> (f32, bool) {
    let (sum, square) = T::dot(kernels, row, query.values);
    // (d + 8) roundings of 2^-53 a term; the factor 4 covers those of the norms and of the bound itself.
    let error = query.norm * square.sqrt() * ((row.len() + 8) as f64 * 2.0 * f64::EPSILON);
    let (low, high) = ((sum - error).next_down() as f32, (sum + error).next_up() as f32);
    let rounded = if low == high && row.len() <= LONGEST {
        low
    } else {
        fsum(row.iter().zip(query.values).map(|(x, q)| x.to_f64() * q)) as f32
    };
    // Turns -0.0 into 0.0: equal scores must have equal bits.
    (rounded + 0.0, square.is_finite())
}

/// The canonical scores of a query and 16 rows from float64 sums of at most `columns + 8` roundings a term, with upper bounds of
/// the norms. Bit `i` of the result says whether `scores[i]` is certain; where it is not, [`score`] tells it.
pub fn rounded(
    kernels: &dot_f64::Kernels,
    sums: &[f64; LANES],
    query: f64,
    norms: &[f64; LANES],
    columns: usize,
    scores: &mut [f32; LANES],
) -> u32 {
    // As in `score`.
    let factor = query * ((columns + 8) as f64 * 2.0 * f64::EPSILON);
    let mut ends = [[0.0; LANES]; 2];
    kernels.round(sums, norms, factor, &mut ends);
    let [low, high] = &ends;
    let mut certain = 0;
    for i in 0..LANES {
        certain |= u32::from(low[i] == high[i]) << i;
        scores[i] = low[i] + 0.0;
    }
    if columns <= LONGEST { certain } else { 0 }
}

/// The sum of finite terms, correctly rounded (Shewchuk 1997; the algorithm of Python's `math.fsum`).
pub fn fsum(terms: impl IntoIterator<Item = f64>) -> f64 {
    // Non-overlapping, increasing in magnitude, and together exactly the sum so far.
    let mut partials: Vec<f64> = Vec::new();
    for term in terms {
        let mut x = term;
        let mut kept = 0;
        for at in 0..partials.len() {
            let mut y = partials[at];
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let high = x + y;
            let low = y - (high - x);
            if low != 0.0 {
                partials[kept] = low;
                kept += 1;
            }
            x = high;
        }
        partials.truncate(kept);
        partials.push(x);
    }
    let Some(mut high) = partials.pop() else { return 0.0 };
    let mut low = 0.0;
    while let Some(y) = partials.pop() {
        let x = high;
        high = x + y;
        low = y - (high - x);
        if low != 0.0 {
            break;
        }
    }
    // Half-way cases: the next partial decides on which side of the half the sum lies.
    if partials.last().is_some_and(|next| (low < 0.0 && *next < 0.0) || (low > 0.0 && *next > 0.0)) {
        let twice = low * 2.0;
        let x = high + twice;
        if x - high == twice {
            high = x;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::level::Level;

    #[test]
    fn fsum_is_correctly_rounded() {
        assert_eq!(fsum([]).to_bits(), 0.0_f64.to_bits());
        assert_eq!(fsum([1e100, 1.0, -1e100]), 1.0);
        assert_eq!(fsum([0.1; 10]), 1.0);
        let ulp = f64::EPSILON;
        // 1 + half an ulp is a tie (to even: 1); the least bit more decides for the next number.
        assert_eq!(fsum([1.0, ulp / 2.0]), 1.0);
        assert_eq!(fsum([1.0, ulp / 2.0, 1e-300]), 1.0 + ulp);
        assert_eq!(fsum([1.0, ulp / 2.0, -1e-300]), 1.0);
        assert_eq!(fsum([1e-300, ulp / 2.0, 1.0]), 1.0 + ulp);
        assert_eq!(fsum([1.0 + ulp, ulp / 2.0, -1e-300]), 1.0 + ulp);
    }

    #[test]
    fn cancellation_and_zeros() {
        for level in Level::available() {
            let kernels = Kernels::of(level).unwrap();
            let row = [60000.0, -60000.0, 6e-8].map(f16::from_f32);
            let tiny = f64::from(f32::from_bits(1));
            let expected = (row[2].to_f64() * tiny) as f32;
            let score = |values: &[f64; 3]| score(kernels, &row, Query { values, norm: norm(values) });
            assert_eq!(score(&[3e38, 3e38, tiny]), expected);
            let minus = score(&[0.0, 0.0, -tiny]);
            assert_eq!(minus.to_bits(), 0, "a negative underflow is 0.0, not -0.0");
            assert_eq!(score(&[3e38, 0.0, 0.0]), f32::INFINITY);
        }
    }
}
