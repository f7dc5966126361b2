//! Translations: two parameters, one correspondence.

use super::{Affine, Moments};

/// The translation that maps `(x, y)` to `(u, v)`.
pub fn from_correspondence([x, y, u, v]: [f64; 4]) -> Affine {
    Affine([1.0, 0.0, u - x, 0.0, 1.0, v - y])
}

/// The weighted least squares translation; None without weight.
pub fn least_squares(m: &Moments) -> Option<Affine> {
    let [w, x, y, u, v, ..] = *m;
    (w > 0.0).then(|| Affine([1.0, 0.0, (u - x) / w, 0.0, 1.0, (v - y) / w]))
}
