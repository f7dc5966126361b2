//! The coordinates hypotheses are tried in.

use super::models::Affine;
use super::models::homography::Homography;
use crate::kernels::consensus::Scaling;

/// Coordinates centred on either side's mean, in units of the threshold.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    centre: [f64; 4],
    unit: f64,
    inverse: f64,
}

impl Frame {
    /// The frame around the mean of the correspondences.
    pub fn around(centre: [f64; 4], threshold: f64) -> Self {
        Self { centre, unit: threshold, inverse: (1.0 / threshold).min(f64::MAX) }
    }

    /// What makes coordinates given normalised ones.
    pub fn scaling(&self) -> Scaling {
        Scaling { centre: self.centre, inverse: self.inverse }
    }

    /// A map of normalised coordinates as one of the coordinates given.
    pub fn denormalise(&self, map: &Affine) -> Affine {
        let [a, b, c, d, e, f] = map.0;
        let [x, y, u, v] = self.centre;
        Affine([a, b, u + c * self.unit - (a * x + b * y), d, e, v + f * self.unit - (d * x + e * y)])
    }

    /// A map of the coordinates given as one of normalised coordinates.
    pub fn apply(&self, map: &Affine) -> Affine {
        let [a, b, _, d, e, _] = map.0;
        let [x, y, u, v] = self.centre;
        let (p, q) = map.apply(x, y);
        Affine([a, b, (p - u) * self.inverse, d, e, (q - v) * self.inverse])
    }

    /// Where a homography of the coordinates given puts a point of normalised coordinates, in such.
    pub fn mapped(&self, homography: &Homography, x: f64, y: f64) -> (f64, f64) {
        let [from_x, from_y, u, v] = self.centre;
        let (p, q) = homography.apply(x * self.unit + from_x, y * self.unit + from_y);
        ((p - u) * self.inverse, (q - v) * self.inverse)
    }
}
