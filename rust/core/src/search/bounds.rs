//! What the screens prove about a canonical score. The proofs are in docs/numerics.md.

use super::planes::Quantiser;
use crate::error::{Error, Result};
use crate::kernels::dot_f64;
use crate::kernels::dot_i8::STEP;

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

/// The largest magnitude of a query.
///
/// # Errors
/// [`Error::NonFinite`] naming `row`, the query's number.
pub fn finite_peak(kernels: &dot_f64::Kernels, query: &[f32], row: usize) -> Result<f32> {
    let peak = kernels.peak(query);
    if peak.is_finite() {
        return Ok(peak);
    }
    let column = query.iter().position(|value| !value.is_finite()).unwrap_or(0);
    Err(Error::NonFinite { what: "queries".into(), row, column, value: query[column] })
}

impl Screened {
    /// Scales `query` into `scaled` (`query.len()` values) for rows with values up to `largest`.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming `row`, the query's number.
    pub fn new(query: &[f32], row: usize, largest: f64, scaled: &mut [f32]) -> Result<Self> {
        let kernels = dot_f64::Kernels::active()?;
        let peak = f64::from(finite_peak(kernels, query, row)?);
        // Bits 52.. of a positive normal float64 are its exponent; every non-zero float32 is one.
        let exponent = if peak == 0.0 { 0 } else { (peak.to_bits() >> 52) as i32 - 1022 };
        let factor = power_of_two(-exponent);
        let square = kernels.scale(query, factor, scaled);
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

/// A query as the int8 screen sees it, for rows around one centre: rotated, less its part along the centre, and quantised.
///
/// Its unit is such that the screened score of a row is the row's scale times the product of the codes, and its excess
/// times that with the centre.
#[derive(Debug, Clone)]
pub struct Quantised {
    screened: Screened,
    /// Int8 units are this many times screen units.
    unit: f64,
    /// Error per unit of the norm of a row's residual.
    residual: f64,
    /// Error per unit of a row's norm.
    norm: f64,
    /// The product with the centre, which screened scores lack,
    product: f64,
    /// and the error that comes of it, whatever the row.
    floor: f64,
}

/// The part of the multiple of the centre that was subtracted from a row which counts in the bound of its norm.
pub const SHARE: f64 = 1.0 / 32.0;

impl Quantised {
    /// Quantises a rotated, scaled query for rows around `centre`; `scratch` is as long.
    pub fn new(
        screened: &Screened,
        quantiser: &Quantiser,
        centre: &[f32],
        rotated: &[f32],
        scratch: &mut [f32],
        codes: &mut [i8],
    ) -> Self {
        let (kernels, block) = (quantiser.kernels, quantiser.transform());
        let (mut product, mut length, mut square) = (0.0, 0.0, 0.0);
        for (&value, &common) in rotated.iter().zip(centre) {
            let (value, common) = (f64::from(value), f64::from(common));
            product += value * common;
            length += common * common;
            square += value * value;
        }
        let part = if length == 0.0 { 0.0 } else { product / length };
        for ((place, &value), &common) in scratch.iter_mut().zip(rotated).zip(centre) {
            *place = (f64::from(value) - part * f64::from(common)) as f32;
        }
        let scale = f64::from(kernels.quantise(scratch, kernels.query_limit(), codes).scale);
        // A query of zeros has codes of zeros in any unit.
        let scale = if scale == 0.0 { 1.0 } else { scale };
        let slack = 1.0 + power_of_two(-20);
        let (mut codes_square, mut rest_square) = (0.0, 0.0);
        for (&value, &code) in scratch.iter().zip(codes.iter()) {
            let (value, code) = (f64::from(value), f64::from(code));
            codes_square += code * code;
            rest_square += (value - scale * code) * (value - scale * code);
        }
        let rounding = rotation(block);
        let residual = codes_square.sqrt() * slack;
        let rest = rest_square.sqrt() / scale * slack;
        // From the computed rotation, of which the exact norm is close.
        let whole = square.sqrt() * (1.0 + 2.0 * rounding) / scale * slack;
        // Per unit of the norm of a row and of what was subtracted from it: its rotation, subtraction and the product with
        // the centre, and that they may not be quite perpendicular.
        let (sums, share) = if length == 0.0 { (0.0, 1.0) } else { ((codes.len() / STEP + 4) as f64, SHARE) };
        let rows = whole * ((sums + 7.0) * U + 2.0 * rounding) / share * (1.0 + power_of_two(-8));
        let queries = rest + rounding * whole + 2.0 * U * rest + 7.0 * U * residual;
        Self {
            screened: screened.clone(),
            unit: block as f64 / scale,
            residual,
            norm: (block as f64).sqrt() * (queries + rows) * (1.0 + power_of_two(-17)) * slack,
            product: product / scale,
            floor: 2.0 * rounding * whole * length.sqrt() * (1.0 + power_of_two(-8)),
        }
    }

    /// Error per unit of residual norm, rounded up, and positive, so that times infinity it is infinite.
    pub fn residual(&self) -> f32 {
        ((self.residual * (1.0 + power_of_two(-20))) as f32).next_up().max(f32::MIN_POSITIVE)
    }

    /// Error per unit of row norm, rounded up, and positive.
    pub fn norm(&self) -> f32 {
        ((self.norm * (1.0 + power_of_two(-20))) as f32).next_up().max(f32::MIN_POSITIVE)
    }

    /// The product with the centre, for [`crate::kernels::dot_i8::Limits`]; 0 if that is beyond float32, where nothing is
    /// dropped.
    pub const fn centre(&self) -> f32 {
        let product = self.product as f32;
        if product.is_finite() { product } else { 0.0 }
    }

    /// The threshold for [`crate::kernels::dot_i8::Limits`] that lets every row through whose canonical score
    /// could be at least `least`.
    pub fn limit(&self, least: f32) -> f32 {
        if least == f32::NEG_INFINITY || !(self.product as f32).is_finite() {
            return f32::NEG_INFINITY;
        }
        let exact = f64::from(least.next_down()) * power_of_two(-self.screened.exponent);
        let lacking = exact * self.unit - self.product;
        let lowered = lacking
            - lacking.abs() * power_of_two(-21)
            - self.screened.floor * self.unit
            - self.floor
            - power_of_two(-140);
        let rounded = lowered as f32;
        if f64::from(rounded) > lowered { rounded.next_down() } else { rounded }
    }

    /// How canonical scores are estimated from screened ones.
    pub fn estimate(&self) -> Estimate {
        let factor = power_of_two(self.screened.exponent) / self.unit;
        Estimate { factor: factor as f32, shift: (self.product * factor) as f32 }
    }
}

/// How canonical scores are estimated from screened ones; a guess, nothing is promised.
#[derive(Debug, Clone, Copy)]
pub struct Estimate {
    factor: f32,
    shift: f32,
}

impl Estimate {
    /// The canonical score that a screened one stands for.
    pub fn of(self, score: f32) -> f32 {
        self.factor * score + self.shift
    }
}

/// A query as the bfloat16 screen sees it. Its unit is that of the float32 screen.
#[derive(Debug, Clone)]
pub struct Rounded {
    screened: Screened,
    /// Error per unit of a row's norm.
    slope: f64,
    /// Error whatever the row: inputs and results below 2^-126, which count as zero.
    floor: f64,
}

impl Rounded {
    /// Of a scaled query and what it was rounded to, for rows with values up to `largest`; None if it is too long.
    pub fn new(screened: &Screened, scaled: &[f32], rounded: &[u16], largest: f64) -> Option<Self> {
        let (mut rest, mut square) = (0.0, 0.0);
        for (&value, &bits) in scaled.iter().zip(rounded) {
            let bits = f64::from(f32::from_bits(u32::from(bits) << 16));
            rest += (f64::from(value) - bits) * (f64::from(value) - bits);
            square += bits * bits;
        }
        let slack = 1.0 + power_of_two(-20);
        // Twice the depth: each product and each sum may be rounded.
        let gamma = gamma(2 * scaled.len() + 16);
        let row = power_of_two(-8) + gamma * (1.0 + power_of_two(-8));
        let slope = (rest.sqrt() + square.sqrt() * row * slack) * slack;
        let floor = scaled.len() as f64 * power_of_two(-123) * (1.0 + largest);
        screened.certified.then(|| Self { screened: screened.clone(), slope, floor })
    }

    /// Error per unit of row norm, rounded up, and positive, so that times infinity it is infinite.
    pub fn norm(&self) -> f32 {
        ((self.slope * (1.0 + power_of_two(-20))) as f32).next_up().max(f32::MIN_POSITIVE)
    }

    /// The threshold of the screened scores that lets every row through whose canonical score could be at least `least`.
    pub fn limit(&self, least: f32) -> f32 {
        let limit = f64::from(self.screened.limit(least)) - self.floor;
        let rounded = limit as f32;
        if f64::from(rounded) > limit { rounded.next_down() } else { rounded }
    }

    /// How canonical scores are estimated from screened ones.
    pub fn estimate(&self) -> Estimate {
        Estimate { factor: power_of_two(self.screened.exponent) as f32, shift: 0.0 }
    }
}

/// Error of the computed transform of `block` values relative to the norm of the exact one.
fn rotation(block: usize) -> f64 {
    2.0 * f64::from(block.ilog2()) * U
}

/// A bound of the norm of a row's residual from its squared norm in float32.
pub fn residual(square: f32, columns: usize) -> f32 {
    let exact = f64::from(square) * growth(columns) + columns as f64 * power_of_two(-126);
    (exact.sqrt() as f32).next_up()
}

/// A bound of the norm of a vector from its squared norm in float32 after a transform of `block` values, and of a share of
/// what was subtracted from it.
pub fn rotated_norm(square: f32, columns: usize, block: usize, subtracted: f64) -> f32 {
    let norm = f64::from(residual(square, columns)) + SHARE * subtracted;
    ((norm / (block as f64).sqrt()) as f32).next_up()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::dot_i8::Kernels;
    use crate::level::Level;
    use crate::search::exact::fsum;

    /// Whole numbers from -1,000,000 to 1,000,000, always the same.
    fn numbers() -> impl FnMut() -> f64 {
        let mut state = 7_u64;
        move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            ((state >> 33) % 2_000_001) as f64 - 1e6
        }
    }

    #[test]
    fn int8_scores_keep_within_their_bounds_around_any_centre() {
        let mut number = numbers();
        for (columns, common, own) in [1, 40, 64, 100, 512]
            .into_iter()
            .flat_map(|columns| [0.0, 1.0, 30.0, 1e4].map(|common| (columns, common)))
            .flat_map(|(columns, common)| [1e-6, 1.0].map(|own| (columns, common, own)))
        {
            let mean: Vec<f64> = (0..columns).map(|_| common * number() / 1e6).collect();
            let rows: Vec<Vec<f32>> = (0..12)
                .map(|_| mean.iter().map(|mean| (mean + own * number() / 1e6) as f32).collect())
                .collect();
            let queries: Vec<Vec<f32>> = (0..6)
                .map(|_| (0..columns).map(|_| (number() / 1e6) as f32).collect())
                .chain(rows[..3].to_vec())
                .collect();
            for level in Level::available() {
                let quantiser = || {
                    let mut quantiser = Quantiser::new(columns).unwrap().unwrap();
                    quantiser.kernels = Kernels::of(level).unwrap();
                    quantiser
                };
                let far: Vec<f32> = (0..quantiser().padded()).map(|_| (number() / 1e3) as f32).collect();
                let centred = [
                    quantiser(),
                    quantiser().around_mean(rows.iter().map(Vec::as_slice)),
                    quantiser().around(&far),
                ];
                for quantiser in centred {
                    for query in &queries {
                        check(&quantiser, query, &rows);
                    }
                }
            }
        }
    }

    fn check(quantiser: &Quantiser, query: &[f32], rows: &[Vec<f32>]) {
        let padded = quantiser.padded();
        let (mut rotated, mut codes, mut scratch) = (vec![0.0; padded], vec![0; padded], vec![0.0; padded]);
        let centre = quantiser.centre();
        let screened = Screened::new(query, 0, 1e6, &mut rotated[..query.len()]).unwrap();
        let scaled: Vec<f64> = rotated[..query.len()].iter().map(|&value| f64::from(value)).collect();
        quantiser.rotate(&mut rotated);
        let quantised = Quantised::new(&screened, quantiser, centre, &rotated, &mut scratch, &mut codes);
        for values in rows {
            let mut row_codes = vec![0; padded];
            let [_, scale, residual, norm, excess] = quantiser.quantise(values, &mut scratch, &mut row_codes);
            let product: i32 = codes.iter().zip(&row_codes).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
            let score = product as f32 * scale;
            let exact = fsum(scaled.iter().zip(values).map(|(query, &value)| query * f64::from(value)));
            let common = quantised.product * (1.0 + f64::from(excess));
            let found = (f64::from(score) + common - quantised.unit * exact).abs();
            let bound = quantised.residual * f64::from(residual) + quantised.norm * f64::from(norm);
            assert!(found <= bound + quantised.floor, "{found} of {bound} + {}", quantised.floor);
            let canonical = fsum(query.iter().zip(values).map(|(&q, &x)| f64::from(q) * f64::from(x))) as f32;
            let slack = quantised.limit(canonical) - quantised.residual() * residual;
            let slack = slack - quantised.norm() * norm;
            assert!(score >= slack - quantised.centre() * excess, "a row is lost at its own score");
        }
    }
}
