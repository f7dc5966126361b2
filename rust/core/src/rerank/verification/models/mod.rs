//! The maps a correspondence set can be explained by, and their least squares solutions.
//!
//! Every model but a homography is an [`Affine`]; a file is one family: how many parameters it has and its least
//! squares solution.

pub mod affine;
pub mod homography;
pub mod similarity;
pub mod translation;

/// Weighted sums over correspondences `(x, y) -> (u, v)`: of `w`, `wx`, `wy`, `wu`, `wv`, `wxx`, `wxy`, `wyy`, `wxu`,
/// `wyu`, `wxv`, `wyv`.
pub type Moments = [f64; 12];

/// Families of maps, each within the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Family {
    /// Two parameters.
    Translation,
    /// Four parameters: rotation, scale, translation.
    Similarity,
    /// Six parameters.
    #[default]
    Affine,
    /// Eight parameters, found from the affine map ([`super::projective`]).
    Homography,
}

/// The affine map `(x, y) -> (a x + b y + c, d x + e y + f)`, row by row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine(pub [f64; 6]);

/// Which linear parts are believed: others are degenerate, mirrored, or collapse the query onto a spot.
///
/// With singular values `s1 >= s2` of the linear part and `det > 0` (no reflection):
/// `1 / scale <= sqrt(s1 s2) <= scale` and `s1 / s2 <= anisotropy`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Square of the largest magnification; its inverse is that of the smallest.
    area: f64,
    /// `s1 / s2 + s2 / s1` for the largest ratio of the singular values.
    spread: f64,
}

impl Limits {
    /// Ten times larger or smaller, foreshortened to a quarter.
    pub const DEFAULT: Self = Self::new(10.0, 4.0);

    /// Magnification from `1 / scale` to `scale`, singular values of a ratio up to `anisotropy`.
    pub const fn new(scale: f64, anisotropy: f64) -> Self {
        Self { area: scale * scale, spread: anisotropy + 1.0 / anisotropy }
    }

    /// Square of the largest magnification.
    pub fn area(&self) -> f32 {
        self.area as f32
    }

    /// Largest `s1 / s2 + s2 / s1` for singular values `s1` and `s2`.
    pub fn spread(&self) -> f32 {
        self.spread as f32
    }

    /// Whether the map is finite and its linear part within the limits.
    pub fn allow(&self, map: &Affine) -> bool {
        let [a, b, c, d, e, f] = map.0;
        let det = a * e - b * d;
        // s1^2 + s2^2 = |A|^2 and s1 s2 = det, so s1/s2 + s2/s1 = |A|^2 / det.
        let spread = a * a + b * b + d * d + e * e;
        c.is_finite()
            && f.is_finite()
            && det * self.area >= 1.0
            && det <= self.area
            && spread <= self.spread * det * (1.0 + 1e-9)
    }
}

impl Affine {
    /// The image of a point.
    pub fn apply(&self, x: f64, y: f64) -> (f64, f64) {
        let [a, b, c, d, e, f] = self.0;
        (a * x + b * y + c, d * x + e * y + f)
    }

    /// Distance between the image of `(x, y)` and `(u, v)`.
    pub fn residual(&self, correspondence: [f64; 4]) -> f64 {
        self.squared_residual(correspondence).sqrt()
    }

    /// Square of [`Self::residual`].
    pub fn squared_residual(&self, [x, y, u, v]: [f64; 4]) -> f64 {
        let (p, q) = self.apply(x, y);
        (p - u) * (p - u) + (q - v) * (q - v)
    }

    /// Rounded for the kernels.
    pub fn to_map(self) -> [f32; 6] {
        self.0.map(|value| value as f32)
    }

    /// What a kernel worked with.
    pub fn from_map(map: [f32; 6]) -> Self {
        Self(map.map(f64::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_refuse_reflection_collapse_and_shear() {
        let allowed = |linear: [f64; 4]| {
            let [a, b, d, e] = linear;
            Limits::DEFAULT.allow(&Affine([a, b, 0.0, d, e, 0.0]))
        };
        assert!(
            allowed([1.0, 0.0, 0.0, 1.0])
                && allowed([0.0, -10.0, 10.0, 0.0])
                && allowed([4.0, 0.0, 0.0, 1.0])
        );
        assert!(!allowed([1.0, 0.0, 0.0, -1.0]), "reflection");
        assert!(!allowed([0.05, 0.0, 0.0, 0.05]), "collapse");
        assert!(!allowed([4.1, 0.0, 0.0, 1.0]), "foreshortening");
        assert!(!allowed([0.0; 4]) && !allowed([f64::NAN; 4]) && !allowed([1.0, 1.0, 1.0, 1.0]));
    }
}
