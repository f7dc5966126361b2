//! What the screens prove about a canonical score. The proofs are in docs/numerics.md.

use super::planes::Quantiser;
use crate::error::{Error, Result};
use crate::kernels::dot_f64;

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
        let kernels = dot_f64::Kernels::active()?;
        let peak = kernels.peak(query);
        if !peak.is_finite() {
            let column = query.iter().position(|value| !value.is_finite()).unwrap_or(0);
            return Err(Error::NonFinite { what: "queries".into(), row, column, value: query[column] });
        }
        let peak = f64::from(peak);
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

/// A query as the int8 screen sees it: rotated and quantised.
///
/// Its unit is such that the screened score of a row is the row's scale times the product of the codes.
#[derive(Debug, Clone)]
pub struct Quantised {
    screened: Screened,
    /// Int8 units are this many times screen units.
    unit: f64,
    /// The rotated query is about `scale` times its codes.
    scale: f64,
    /// Error per unit of the norm of a row's residual.
    residual: f64,
    /// Error per unit of a row's norm.
    norm: f64,
    /// Error per unit of the norm of what was subtracted from the rotated rows.
    centre: f64,
}

/// What a query's screened scores of rows lack from which a centre was subtracted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shift {
    /// The product of the rotated query with the centre.
    product: f64,
    /// Its error, and what the rotation of rows as large as the centre adds to that of the scores.
    error: f64,
}

impl Quantised {
    /// Quantises a rotated, scaled query.
    pub fn new(screened: &Screened, quantiser: &Quantiser, rotated: &[f32], codes: &mut [i8]) -> Self {
        let (kernels, block) = (quantiser.kernels, quantiser.transform());
        let scale = f64::from(kernels.quantise(rotated, kernels.query_limit(), codes).scale);
        // A query of zeros has codes of zeros in any unit.
        let scale = if scale == 0.0 { 1.0 } else { scale };
        let slack = 1.0 + power_of_two(-20);
        let (mut codes_square, mut rest_square, mut square) = (0.0, 0.0, 0.0);
        for (&value, &code) in rotated.iter().zip(codes.iter()) {
            let (value, code) = (f64::from(value), f64::from(code));
            codes_square += code * code;
            rest_square += (value - scale * code) * (value - scale * code);
            square += value * value;
        }
        let root = (block as f64).sqrt() * slack;
        let rounding = rotation(block);
        let residual = codes_square.sqrt() * slack;
        // The rounding of the query's rotation, relative to the exact norm, which is close to that computed.
        let rest = (rest_square.sqrt() + rounding * square.sqrt() * (1.0 + 2.0 * rounding)) * slack;
        let norm =
            root * (rest / scale + (rounding + 5.0 * U) * residual) * (1.0 + power_of_two(-17)) * slack;
        // The query's rotation, and that of rows.
        let whole = square.sqrt() * (1.0 + 2.0 * rounding) / scale + residual + rest / scale;
        let centre = rounding * whole * (1.0 + power_of_two(-8));
        Self { screened: screened.clone(), unit: block as f64 / scale, scale, residual, norm, centre }
    }

    /// What rows lack from which `centre` was subtracted; `rotated` is the query.
    pub fn shift(&self, rotated: &[f32], centre: &[f32]) -> Shift {
        let (mut product, mut square) = (0.0, 0.0);
        for (&value, &subtracted) in rotated.iter().zip(centre) {
            product += f64::from(value) * f64::from(subtracted);
            square += f64::from(subtracted) * f64::from(subtracted);
        }
        Shift {
            product: product / self.scale,
            error: self.centre * square.sqrt() * (1.0 + power_of_two(-20)),
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

    /// The threshold for [`crate::kernels::dot_i8::Limits`] that lets every row through whose canonical score
    /// could be at least `least`, of rows that lack `shift`.
    pub fn limit(&self, shift: Shift, least: f32) -> f32 {
        if least == f32::NEG_INFINITY {
            return f32::NEG_INFINITY;
        }
        let exact = f64::from(least.next_down()) * power_of_two(-self.screened.exponent);
        let lacking = exact * self.unit - shift.product;
        let lowered = lacking
            - lacking.abs() * power_of_two(-21)
            - self.screened.floor * self.unit
            - shift.error
            - power_of_two(-140);
        let rounded = lowered as f32;
        if f64::from(rounded) > lowered { rounded.next_down() } else { rounded }
    }

    /// The estimate of a canonical score from a screened one that lacks nothing; a guess, nothing is promised.
    pub fn estimate(&self, score: f32) -> f32 {
        (f64::from(score) / self.unit * power_of_two(self.screened.exponent)) as f32
    }
}

impl Shift {
    /// What is added to a screened score before it is compared with those of other rows.
    pub const fn amount(self) -> f32 {
        self.product as f32
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

    /// The estimate of a canonical score from a screened one; a guess, nothing is promised.
    pub fn estimate(&self, score: f32) -> f32 {
        (f64::from(score) * power_of_two(self.screened.exponent)) as f32
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

/// A bound of the norm of a vector from its squared norm in float32 after a transform of `block` values.
pub fn rotated_norm(square: f32, columns: usize, block: usize) -> f32 {
    ((f64::from(residual(square, columns)) / (block as f64).sqrt()) as f32).next_up()
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
        let screened = Screened::new(query, 0, 1e6, &mut rotated[..query.len()]).unwrap();
        let scaled: Vec<f64> = rotated[..query.len()].iter().map(|&value| f64::from(value)).collect();
        quantiser.rotate(&mut rotated);
        let quantised = Quantised::new(&screened, quantiser, &rotated, &mut codes);
        let shift = quantised.shift(&rotated, quantiser.centre());
        for values in rows {
            let mut row_codes = vec![0; padded];
            let row = quantiser.quantise(values, &mut scratch, &mut row_codes);
            let product: i32 = codes.iter().zip(&row_codes).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
            let score = product as f32 * row.scale;
            let exact = fsum(scaled.iter().zip(values).map(|(query, &value)| query * f64::from(value)));
            let found = (f64::from(score) + shift.product - quantised.unit * exact).abs();
            let bound = quantised.residual * f64::from(row.residual) + quantised.norm * f64::from(row.norm);
            assert!(found <= bound + shift.error, "{found} of {bound} + {}", shift.error);
            let canonical = fsum(query.iter().zip(values).map(|(&q, &x)| f64::from(q) * f64::from(x))) as f32;
            let slack = quantised.limit(shift, canonical) - quantised.residual() * row.residual;
            assert!(score >= slack - quantised.norm() * row.norm, "a row is lost at its own score");
        }
    }
}
