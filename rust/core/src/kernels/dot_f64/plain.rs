//! What takes a line of plain Rust: the compiler makes vectors of it, of the length that the caller's level has.

#![expect(clippy::inline_always, reason = "code of a level is what is made of it there")]

use super::LANES;

/// The largest magnitude; not finite if a value is not.
#[inline(always)]
pub fn peak(values: &[f32]) -> f32 {
    // Of numbers without a sign, the larger has the larger bits; of what is not finite, the largest. Sixteen at a time.
    let mut peaks = [0_u32; LANES];
    let mut parts = values.chunks_exact(LANES);
    for values in &mut parts {
        for (peak, value) in peaks.iter_mut().zip(values) {
            *peak = (*peak).max(value.abs().to_bits());
        }
    }
    let rest = parts.remainder().iter().map(|value| value.abs().to_bits());
    f32::from_bits(peaks.into_iter().chain(rest).fold(0, u32::max))
}

/// Multiplies with `factor` in float64, rounds to float32, and sums the squares.
#[inline(always)]
pub fn scale(values: &[f32], factor: f64, scaled: &mut [f32]) -> f64 {
    convert(values, scaled, |value| {
        let scaled = (f64::from(value) * factor) as f32;
        (scaled, f64::from(scaled))
    })
}

/// Converts to float64 and sums the squares.
#[inline(always)]
pub fn widen(values: &[f32], widened: &mut [f64]) -> f64 {
    convert(values, widened, |value| (f64::from(value), f64::from(value)))
}

/// Writes what becomes of each value, and sums the squares of that in float64.
#[inline(always)]
fn convert<V>(values: &[f32], places: &mut [V], becomes: impl Fn(f32) -> (V, f64)) -> f64 {
    let mut squares = [0.0_f64; LANES];
    let step = |places: &mut [V], values: &[f32], squares: &mut [f64]| {
        for ((place, &value), square) in places.iter_mut().zip(values).zip(squares) {
            let (converted, wide) = becomes(value);
            *place = converted;
            *square += wide * wide;
        }
    };
    let mut places = places[..values.len()].chunks_exact_mut(LANES);
    let mut parts = values.chunks_exact(LANES);
    for (places, values) in (&mut places).zip(&mut parts) {
        step(places, values, &mut squares);
    }
    step(places.into_remainder(), parts.remainder(), &mut squares);
    squares.iter().sum()
}

/// Rounds both ends of intervals to float32.
#[inline(always)]
pub fn round(sums: &[f64; LANES], errors: &[f64; LANES], factor: f64, ends: &mut [[f32; LANES]; 2]) {
    for i in 0..LANES {
        let error = errors[i] * factor + sums[i].abs() * (2.0 * f64::EPSILON);
        (ends[0][i], ends[1][i]) = ((sums[i] - error) as f32, (sums[i] + error) as f32);
    }
}
