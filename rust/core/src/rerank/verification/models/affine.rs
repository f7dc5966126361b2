//! Affine maps: six parameters, three correspondences.

use super::Affine;
use crate::kernels::consensus::Moments;

/// The affine map through three correspondences; None if the query points lie on a line.
pub fn from_three([first, second, third]: [[f64; 4]; 3]) -> Option<Affine> {
    let [x1, y1, u1, v1] = std::array::from_fn(|i| second[i] - first[i]);
    let [x2, y2, u2, v2] = std::array::from_fn(|i| third[i] - first[i]);
    let det = x1 * y2 - x2 * y1;
    if det == 0.0 {
        return None;
    }
    let inverse = 1.0 / det;
    let (a, b) = ((u1 * y2 - u2 * y1) * inverse, (u2 * x1 - u1 * x2) * inverse);
    let (d, e) = ((v1 * y2 - v2 * y1) * inverse, (v2 * x1 - v1 * x2) * inverse);
    let [x, y, u, v] = first;
    Some(Affine([a, b, u - (a * x + b * y), d, e, v - (d * x + e * y)]))
}

/// The weighted least squares affine map; None if the weighted query points (nearly) lie on a line.
pub fn least_squares(m: &Moments) -> Option<Affine> {
    if m.w <= 0.0 {
        return None;
    }
    let (x, y, u, v) = (m.x / m.w, m.y / m.w, m.u / m.w, m.v / m.w);
    let xx = m.xx - m.w * x * x;
    let xy = m.xy - m.w * x * y;
    let yy = m.yy - m.w * y * y;
    let det = xx * yy - xy * xy;
    let trace = xx + yy;
    // The smaller principal variance must be a thousandth of the larger one: a thinner set of points does not
    // determine what happens across it.
    if det <= 1e-3 * trace * trace || trace <= 1e-6 * (m.xx + m.yy) {
        return None;
    }
    let (xu, yu) = (m.xu - m.w * x * u, m.yu - m.w * y * u);
    let (xv, yv) = (m.xv - m.w * x * v, m.yv - m.w * y * v);
    let (a, b) = ((xu * yy - yu * xy) / det, (yu * xx - xu * xy) / det);
    let (d, e) = ((xv * yy - yv * xy) / det, (yv * xx - xv * xy) / det);
    Some(Affine([a, b, u - (a * x + b * y), d, e, v - (d * x + e * y)]))
}
