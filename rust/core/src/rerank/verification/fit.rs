//! The final fit: float64, on the coordinates as given.

use super::models::{Affine, Family, Limits, Moments, affine, similarity};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::inliers::{Columns, Inliers, Sums};

/// Fits translation, similarity and affine maps to the inliers in float64, and keeps what explains most.
///
/// More inliers win; among equals the smaller truncated loss, unless a simpler family loses almost nothing.
///
/// The map and the number of its inliers.
pub fn finish(
    start: Affine,
    columns: &Columns,
    threshold: f64,
    family: Family,
    inliers: Inliers,
    control: &Control,
) -> Result<(Affine, usize)> {
    let square = threshold * threshold;
    let inverse = 1.0 / square;
    let better = |new: (usize, f64), old: (usize, f64)| {
        new.0 > old.0 || (new.0 == old.0 && new.1 > old.1 * (1.0 + 1e-9))
    };
    let (mut best, mut reached) = (start, inliers.count(columns, &start.0, inverse));
    for _ in 0..3 {
        let (before, started) = ((best, reached), Limits::DEFAULT.allow(&best));
        control.check()?;
        let sums = inliers.moments(columns, &best.0, square);
        let fits = sums.map_or([None; 3], |sums| least_squares(&sums, family, square));
        // Simplest first: a richer family must beat it by more than rounding, and so must what we have.
        reached = (0, 0.0);
        for fit in fits.into_iter().flatten().filter(|fit| Limits::DEFAULT.allow(fit)) {
            let quality = inliers.count(columns, &fit.0, inverse);
            if better(quality, reached) {
                (best, reached) = (fit, quality);
            }
        }
        if started && better(before.1, reached) {
            (best, reached) = before;
        }
        if reached.0 <= before.1.0 {
            break;
        }
    }
    Ok((best, reached.0))
}

/// The translation, the similarity and the affine map of least squares, where determined and in the family; without
/// the poor ones: those off by more than the threshold in the mean square.
fn least_squares(sums: &Sums, family: Family, squared_threshold: f64) -> [Option<Affine>; 3] {
    let Sums { origin: [x, y, u, v], moments, squares, shifts } = *sums;
    // About the mean: sums of products of coordinates relative to it have nothing left to cancel.
    let count = moments[0];
    let mean: [f64; 4] = std::array::from_fn(|i| moments[i + 1] / count);
    let moments = centred(&moments, mean);
    let recentred = |fit: Affine| {
        let [a, b, c, d, e, f] = fit.0;
        let (x, y, u, v) = (x + mean[0], y + mean[1], u + mean[2], v + mean[3]);
        Affine([a, b, u + c - (a * x + b * y), d, e, v + f - (d * x + e * y)])
    };
    let shift = [(u - x) + shifts[0] / count, (v - y) + shifts[1] / count];
    let squares = squares - count * (mean[2] * mean[2] + mean[3] * mean[3]);
    let good = |Affine([p, _, _, q, ..]): &Affine| {
        // The squared residuals of [p -q; q p] about the means. A richer family has the same or less.
        let [_, _, _, _, _, xx, _, yy, xu, yu, xv, yv] = moments;
        let residuals = squares + (p * p + q * q) * (xx + yy) - 2.0 * (p * (xu + yv) + q * (xv - yu));
        residuals <= count * squared_threshold
    };
    let translation = Affine([1.0, 0.0, shift[0], 0.0, 1.0, shift[1]]);
    let richer = family >= Family::Similarity;
    let similar = richer.then(|| similarity::least_squares(&moments)).flatten();
    [
        // The only one must do.
        Some(translation).filter(|fit| !richer || good(fit)),
        similar.filter(|fit| good(fit)).map(recentred),
        (family >= Family::Affine).then(|| affine::least_squares(&moments)).flatten().map(recentred),
    ]
}

/// Moments of coordinates relative to their mean.
fn centred(m: &Moments, [x, y, u, v]: [f64; 4]) -> Moments {
    let [w, sx, sy, _, _, xx, xy, yy, xu, yu, xv, yv] = *m;
    let products =
        [xx - sx * x, xy - sx * y, yy - sy * y, xu - sx * u, yu - sy * u, xv - sx * v, yv - sy * v];
    let [xx, xy, yy, xu, yu, xv, yv] = products;
    [w, 0.0, 0.0, 0.0, 0.0, xx, xy, yy, xu, yu, xv, yv]
}
