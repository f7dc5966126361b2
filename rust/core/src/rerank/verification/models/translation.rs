//! Translations: two parameters, one correspondence.

use super::Affine;
use crate::kernels::consensus::Moments;

/// The translation that maps `(x, y)` to `(u, v)`.
pub fn from_correspondence([x, y, u, v]: [f64; 4]) -> Affine {
    Affine([1.0, 0.0, u - x, 0.0, 1.0, v - y])
}

/// The weighted least squares translation; None without weight.
pub fn least_squares(m: &Moments) -> Option<Affine> {
    (m.w > 0.0).then(|| Affine([1.0, 0.0, (m.u - m.x) / m.w, 0.0, 1.0, (m.v - m.y) / m.w]))
}
