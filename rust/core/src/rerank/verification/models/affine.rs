//! Affine maps: six parameters.

use super::{Affine, Moments};

/// The weighted least squares affine map; None if the weighted query points (nearly) lie on a line.
pub fn least_squares(m: &Moments) -> Option<Affine> {
    let [w, x, y, u, v, xx, xy, yy, xu, yu, xv, yv] = *m;
    if w <= 0.0 {
        return None;
    }
    let inverse = 1.0 / w;
    let (mx, my, mu, mv) = (x * inverse, y * inverse, u * inverse, v * inverse);
    let total = xx + yy;
    let (xx, xy, yy) = (xx - x * mx, xy - x * my, yy - y * my);
    let det = xx * yy - xy * xy;
    let trace = xx + yy;
    // The smaller principal variance must be a thousandth of the larger one: a thinner set of points does not
    // determine what happens across it. Negated, so that what is not a number is refused.
    if !(det > 1e-3 * trace * trace && trace > 1e-6 * total) {
        return None;
    }
    let (xu, yu, xv, yv) = (xu - x * mu, yu - y * mu, xv - x * mv, yv - y * mv);
    let inverse = 1.0 / det;
    let (a, b) = ((xu * yy - yu * xy) * inverse, (yu * xx - xu * xy) * inverse);
    let (d, e) = ((xv * yy - yv * xy) * inverse, (yv * xx - xv * xy) * inverse);
    Some(Affine([a, b, mu - (a * mx + b * my), d, e, mv - (d * mx + e * my)]))
}
