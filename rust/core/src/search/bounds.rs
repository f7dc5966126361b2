//! What the float32 screen proves about a canonical score. The proofs are in docs/numerics.md.

use crate::error::{Error, Result};

/// Unit roundoff of float32.
const U: f64 = 1.0 / 16_777_216.0;

/// Rounding steps of the screen a term can take part in beyond `d`: the sums across lanes.
const EXTRA: usize = 8;

/// Longer rows are not screened: `gamma` would not be small any more.
const LONGEST: usize = 1 << 17;

/// `gamma(d + 8)`: a sum of `d` terms has at most this error relative to the sum of their sizes.
pub fn gamma(columns: usize) -> f64 {
    let steps = (columns + EXTRA) as f64 * U;
    steps / (1.0 - steps)
}

/// The factor by which the exact squared norm can exceed the computed one.
pub fn growth(columns: usize) -> f64 {
    if columns > LONGEST { 1.0 } else { 1.0 + 2.0 * gamma(columns) }
}

/// A query as the screen sees it: scaled by a power of two so that its largest value is in `[0.5, 1)`.
#[derive(Debug, Clone)]
pub struct Screened {
    /// Canonical units are `2^exponent` times screen units.
    exponent: i32,
    /// Error in screen units per unit of row norm.
    slope: f64,
    /// Error in screen units whatever the row: underflow.
    floor: f64,
    /// Whether the bound holds; otherwise every row is a candidate.
    certified: bool,
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

impl Screened {
    /// Scales `query` into `scaled` (`query.len()` values) for rows with values up to `largest`.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming `row`, the query's number.
    pub fn new(query: &[f32], row: usize, largest: f64, scaled: &mut [f32]) -> Result<Self> {
        if let Some(column) = query.iter().position(|value| !value.is_finite()) {
            return Err(Error::NonFinite { what: "queries".into(), row, column, value: query[column] });
        }
        let peak = f64::from(query.iter().fold(0.0_f32, |peak, value| peak.max(value.abs())));
        // Bits 52.. of a positive normal float64 are its exponent; every non-zero float32 is one.
        let exponent = if peak == 0.0 { 0 } else { (peak.to_bits() >> 52) as i32 - 1022 };
        let factor = power_of_two(-exponent);
        let mut square = 0.0;
        for (place, &value) in scaled.iter_mut().zip(query) {
            *place = (f64::from(value) * factor) as f32;
            square += f64::from(*place) * f64::from(*place);
        }
        let columns = query.len();
        let certified = columns <= LONGEST;
        // 2^-20 is far above all float64 roundings here and in `bounds` and `limit`.
        let norm = square.sqrt() * (1.0 + power_of_two(-20));
        let slope = if certified { gamma(columns) * norm * (1.0 + power_of_two(-20)) } else { 0.0 };
        let floor = columns as f64 * power_of_two(-148) * (1.0 + largest);
        Ok(Self { exponent, slope, floor, certified })
    }

    /// Error per unit of row norm, for [`crate::kernels::dot_f16::Limits`]: rounded up, and positive, so that
    /// times an infinite norm it is infinite.
    pub fn slope(&self) -> f32 {
        ((self.slope * (1.0 + power_of_two(-20))) as f32).next_up().max(f32::MIN_POSITIVE)
    }

    /// The threshold for [`crate::kernels::dot_f16::Limits`] that lets every row through whose canonical score
    /// could be at least `least`.
    pub fn limit(&self, least: f32) -> f32 {
        if !self.certified || least == f32::NEG_INFINITY {
            return f32::NEG_INFINITY;
        }
        let exact = f64::from(least.next_down()) * power_of_two(-self.exponent);
        let lowered = exact - exact.abs() * power_of_two(-22) - self.floor;
        let rounded = lowered as f32;
        if f64::from(rounded) > lowered { rounded.next_down() } else { rounded }
    }

    /// Bounds of the canonical score of a row with the given screened score and norm bound.
    pub fn bounds(&self, score: f32, norm: f32) -> (f32, f32) {
        if !self.certified || norm == f32::INFINITY {
            return (f32::NEG_INFINITY, f32::INFINITY);
        }
        let error = (self.slope * f64::from(norm) + self.floor) * (1.0 + power_of_two(-20));
        let unit = power_of_two(self.exponent);
        (((f64::from(score) - error) * unit) as f32, ((f64::from(score) + error) * unit) as f32)
    }
}
