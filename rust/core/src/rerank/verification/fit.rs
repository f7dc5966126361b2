//! The final fit: float64, on the coordinates as given.

use super::models::{Affine, Limits, affine, similarity};
use crate::kernels::consensus::Moments;

/// Fits translation, similarity and affine maps to the inliers in float64, and keeps what explains most.
///
/// More inliers win; among equals the smaller truncated loss, unless a simpler family loses almost nothing.
pub fn finish(start: Affine, correspondences: &[[f32; 4]], threshold: f64) -> Affine {
    let inverse = 1.0 / (threshold * threshold);
    let quality = |model: &Affine| {
        let (mut count, mut gain) = (0_usize, 0.0);
        for point in correspondences {
            let share = 1.0 - model.squared_residual(point.map(f64::from)) * inverse;
            if share >= 0.0 {
                count += 1;
                gain += share;
            }
        }
        (count, gain)
    };
    let mut best = start;
    let mut reached = quality(&start);
    for _ in 0..3 {
        let (moments, [x, y, u, v], shift) = inlier_moments(&best, correspondences, threshold);
        let recentred = |fit: Affine| {
            let [a, b, c, d, e, f] = fit.0;
            Affine([a, b, u + c - (a * x + b * y), d, e, v + f - (d * x + e * y)])
        };
        // Simplest first: a richer family must beat it by more than rounding, and so must what we have.
        let fits = [
            Some(Affine([1.0, 0.0, shift[0], 0.0, 1.0, shift[1]])),
            similarity::least_squares(&moments).map(recentred),
            affine::least_squares(&moments).map(recentred),
            Some(best),
        ];
        let before = reached.0;
        reached = (0, 0.0);
        for fit in fits.into_iter().flatten().filter(|fit| Limits::DEFAULT.allow(fit)) {
            let (count, gain) = quality(&fit);
            if count > reached.0 || (count == reached.0 && gain > reached.1 * (1.0 + 1e-9)) {
                (best, reached) = (fit, (count, gain));
            }
        }
        if reached.0 <= before {
            break;
        }
    }
    best
}

/// Sums over the inliers of `model`, of coordinates relative to the inliers' mean; that mean; the mean shift.
fn inlier_moments(
    model: &Affine,
    correspondences: &[[f32; 4]],
    threshold: f64,
) -> (Moments, [f64; 4], [f64; 2]) {
    let inliers = || {
        correspondences
            .iter()
            .map(|p| p.map(f64::from))
            .filter(|&p| model.squared_residual(p) <= threshold * threshold)
    };
    let (mut mean, mut shift) = ([0.0; 4], [0.0; 2]);
    let mut count = 0.0;
    for point in inliers() {
        count += 1.0;
        // Of the differences, not the difference of means: a pure translation comes out exactly.
        for (i, shift) in shift.iter_mut().enumerate() {
            *shift += ((point[i + 2] - point[i]) - *shift) / count;
        }
        for (mean, value) in mean.iter_mut().zip(point) {
            *mean += (value - *mean) / count;
        }
    }
    let mut m = Moments {
        w: count,
        x: 0.0,
        y: 0.0,
        u: 0.0,
        v: 0.0,
        xx: 0.0,
        xy: 0.0,
        yy: 0.0,
        xu: 0.0,
        yu: 0.0,
        xv: 0.0,
        yv: 0.0,
    };
    for point in inliers() {
        let [x, y, u, v] = std::array::from_fn(|i| point[i] - mean[i]);
        m.x += x;
        m.y += y;
        m.u += u;
        m.v += v;
        m.xx += x * x;
        m.xy += x * y;
        m.yy += y * y;
        m.xu += x * u;
        m.yu += y * u;
        m.xv += x * v;
        m.yv += y * v;
    }
    (m, mean, shift)
}
