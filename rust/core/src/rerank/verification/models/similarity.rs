//! Similarities (rotation, scale, translation): four parameters, two correspondences or one with geometry.

use super::Affine;
use crate::kernels::consensus::Moments;

/// The similarity with linear part `[p -q; q p]` that maps `(x, y)` to `(u, v)`.
fn through([x, y, u, v]: [f64; 4], p: f64, q: f64) -> Affine {
    Affine([p, -q, u - (p * x - q * y), q, p, v - (q * x + p * y)])
}

/// The similarity that maps one keypoint to another: scale and rotation from their sizes and orientations.
///
/// `scale` is the ratio database / query, `angle` the difference database - query in radians.
pub fn from_keypoints(correspondence: [f64; 4], scale: f64, angle: f64) -> Affine {
    through(correspondence, scale * angle.cos(), scale * angle.sin())
}

/// The similarity through two correspondences; None if the query points coincide.
pub fn from_two(first: [f64; 4], second: [f64; 4]) -> Option<Affine> {
    let (x, y) = (second[0] - first[0], second[1] - first[1]);
    let (u, v) = (second[2] - first[2], second[3] - first[3]);
    let norm = x * x + y * y;
    let inverse = 1.0 / norm;
    (norm > 0.0).then(|| through(first, (x * u + y * v) * inverse, (x * v - y * u) * inverse))
}

/// The weighted least squares similarity; None if the weighted query points coincide.
pub fn least_squares(m: &Moments) -> Option<Affine> {
    if m.w <= 0.0 {
        return None;
    }
    let (x, y, u, v) = (m.x / m.w, m.y / m.w, m.u / m.w, m.v / m.w);
    let spread = (m.xx + m.yy) - m.w * (x * x + y * y);
    // Below this the difference is rounding: the moments are float32 sums.
    if spread <= 1e-6 * (m.xx + m.yy) {
        return None;
    }
    let dot = (m.xu + m.yv) - m.w * (x * u + y * v);
    let cross = (m.xv - m.yu) - m.w * (x * v - y * u);
    Some(through([x, y, u, v], dot / spread, cross / spread))
}
