//! Translations: two parameters, one correspondence.

use super::Affine;

/// The translation that maps `(x, y)` to `(u, v)`.
pub fn from_correspondence([x, y, u, v]: [f64; 4]) -> Affine {
    Affine([1.0, 0.0, u - x, 0.0, 1.0, v - y])
}
