//! Similarities (rotation, scale, translation): four parameters.

use super::{Affine, Moments};

/// The weighted least squares similarity; None if the weighted query points coincide.
pub fn least_squares(m: &Moments) -> Option<Affine> {
    let [w, x, y, u, v, xx, _, yy, xu, yu, xv, yv] = *m;
    if w <= 0.0 {
        return None;
    }
    let inverse = 1.0 / w;
    let (mx, my, mu, mv) = (x * inverse, y * inverse, u * inverse, v * inverse);
    let spread = (xx + yy) - (x * mx + y * my);
    // Below this the difference is rounding: the moments are float32 sums.
    if spread <= 1e-6 * (xx + yy) || spread.is_nan() {
        return None;
    }
    let inverse = 1.0 / spread;
    let p = ((xu + yv) - (x * mu + y * mv)) * inverse;
    let q = ((xv - yu) - (x * mv - y * mu)) * inverse;
    Some(Affine([p, -q, mu - (p * mx - q * my), q, p, mv - (q * mx + p * my)]))
}
