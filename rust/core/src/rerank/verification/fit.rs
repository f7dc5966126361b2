//! The final fit: float64, on the coordinates as given.

use super::models::{Affine, Family, Limits, Moments, affine, similarity};

/// Correspondences a step.
const LANES: usize = 8;

/// Fits translation, similarity and affine maps to the inliers in float64, and keeps what explains most.
///
/// More inliers win; among equals the smaller truncated loss, unless a simpler family loses almost nothing.
pub fn finish(start: Affine, correspondences: &[[f32; 4]], threshold: f64, family: Family) -> Affine {
    let inverse = 1.0 / (threshold * threshold);
    let mut best = start;
    let mut reached = quality(&start, correspondences, inverse);
    for _ in 0..3 {
        let (moments, [x, y, u, v], shift) = inlier_moments(&best, correspondences, threshold);
        let recentred = |fit: Affine| {
            let [a, b, c, d, e, f] = fit.0;
            Affine([a, b, u + c - (a * x + b * y), d, e, v + f - (d * x + e * y)])
        };
        // Simplest first: a richer family must beat it by more than rounding, and so must what we have.
        let fits = [
            Some(Affine([1.0, 0.0, shift[0], 0.0, 1.0, shift[1]])),
            (family >= Family::Similarity)
                .then(|| similarity::least_squares(&moments))
                .flatten()
                .map(recentred),
            (family >= Family::Affine).then(|| affine::least_squares(&moments)).flatten().map(recentred),
            Some(best),
        ];
        let before = reached.0;
        reached = (0, 0.0);
        for fit in fits.into_iter().flatten().filter(|fit| Limits::DEFAULT.allow(fit)) {
            let (count, gain) = quality(&fit, correspondences, inverse);
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

/// The number of inliers and their gain.
fn quality(model: &Affine, correspondences: &[[f32; 4]], inverse: f64) -> (usize, f64) {
    let (mut counts, mut gains) = ([0_u64; LANES], [0.0; LANES]);
    let mut add = |l: usize, point: &[f32; 4]| {
        let share = 1.0 - model.squared_residual(point.map(f64::from)) * inverse;
        counts[l] += u64::from(share >= 0.0);
        gains[l] += if share >= 0.0 { share } else { 0.0 };
    };
    let (steps, rest) = correspondences.as_chunks::<LANES>();
    for step in steps {
        for (l, point) in step.iter().enumerate() {
            add(l, point);
        }
    }
    for (l, point) in rest.iter().enumerate() {
        add(l, point);
    }
    (counts.iter().sum::<u64>() as usize, gains.iter().sum())
}

/// Sums over the inliers of `model`, of coordinates relative to the inliers' mean; that mean; the mean shift.
fn inlier_moments(
    model: &Affine,
    correspondences: &[[f32; 4]],
    threshold: f64,
) -> (Moments, [f64; 4], [f64; 2]) {
    let square = threshold * threshold;
    let inliers = || {
        let points = correspondences.iter().map(|point| point.map(f64::from));
        points.filter(|&point| model.squared_residual(point) <= square)
    };
    let Some(origin) = inliers().next() else { return ([0.0; 12], [0.0; 4], [0.0; 2]) };
    let first = [origin[2] - origin[0], origin[3] - origin[1]];
    let (mut sum, mut shift, mut count) = ([0.0; 4], [0.0; 2], 0.0);
    for point in inliers() {
        count += 1.0;
        for i in 0..4 {
            sum[i] += point[i] - origin[i];
        }
        for i in 0..2 {
            // Of the differences, not the difference of means: a pure translation comes out exactly.
            shift[i] += (point[i + 2] - point[i]) - first[i];
        }
    }
    let mean: [f64; 4] = std::array::from_fn(|i| origin[i] + sum[i] / count);
    let shift = std::array::from_fn(|i| first[i] + shift[i] / count);
    let mut m = [0.0; 12];
    m[0] = count;
    for point in inliers() {
        let [x, y, u, v] = std::array::from_fn(|i| point[i] - mean[i]);
        let terms = [x, y, u, v, x * x, x * y, y * y, x * u, y * u, x * v, y * v];
        for (sum, term) in m[1..].iter_mut().zip(terms) {
            *sum += term;
        }
    }
    (m, mean, shift)
}
