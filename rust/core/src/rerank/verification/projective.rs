//! Perspective: the homography that explains more than the affine map does, found from it.
//!
//! Iteratively reweighted least squares with the truncated quadratic gain, from the affine map on, while the radius
//! shrinks to the threshold; then plain least squares on the inliers until their number grows no more. Everything is
//! float64 on the coordinates as given.

use super::frame::Frame;
use super::models::homography::{Homography, least_squares};
use super::models::{Affine, Limits};
use super::{Verification, Workspace, agreement_rate, chance};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::consensus::Consensus;

/// Radii of the reweighting, in thresholds. Wide at first: an affine map is off by several thresholds far from the
/// middle of what it was fitted to.
const SCHEDULE: [f64; 8] = [4.0, 3.0, 2.5, 2.0, 1.6, 1.3, 1.15, 1.05];
/// Inliers of the affine map it takes: four determine any homography.
const LEAST: usize = 5;

/// Puts the homography in the place of the affine map if chance explains its inliers less well: two parameters more
/// fit a few correspondences more whatever they are.
pub fn improve(
    found: &mut Verification,
    correspondences: &[[f32; 4]],
    frame: &Frame,
    threshold: f64,
    workspace: &mut Workspace,
    control: &Control,
) -> Result<()> {
    let Some(affine) = found.model else { return Ok(()) };
    let Some((homography, inliers)) = refine(&affine, found.inliers, correspondences, threshold, control)?
    else {
        return Ok(());
    };
    let Workspace { points, mask, .. } = workspace;
    let (consensus, tentative) = (Consensus::new()?, correspondences.len());
    let map = frame.apply(&affine);
    let rate = agreement_rate(|x, y| map.apply(x, y), points, found.inliers, tentative, consensus, control)?;
    let before = chance::ln_expected(tentative, found.inliers, chance::FREE, rate);
    let mapped = |x, y| frame.mapped(&homography, x, y);
    let rate = agreement_rate(mapped, points, inliers, tentative, consensus, control)?;
    if chance::ln_expected(tentative, inliers, chance::FREE_PROJECTIVE, rate) >= before {
        return Ok(());
    }
    let square = threshold * threshold;
    for (inside, point) in mask.iter_mut().zip(correspondences) {
        *inside = homography.squared_residual(point.map(f64::from)) <= square;
    }
    (found.homography, found.inliers) = (Some(homography), inliers);
    Ok(())
}

/// The homography with most inliers, if it has more than `inliers`, those of the affine map; their number.
fn refine(
    start: &Affine,
    inliers: usize,
    correspondences: &[[f32; 4]],
    threshold: f64,
    control: &Control,
) -> Result<Option<(Homography, usize)>> {
    if inliers < LEAST {
        return Ok(None);
    }
    let start = Homography::from_affine(start);
    let mut best = None;
    let mut reached = (inliers, gain(&start, correspondences, threshold));
    let mut current = start;
    let plain = std::iter::repeat_n((1.0, false), 3);
    for (radius, weighted) in SCHEDULE.iter().map(|&radius| (radius, true)).chain(plain) {
        control.check()?;
        let Some(fit) = step(&current, correspondences, radius * threshold, weighted) else { break };
        let count = count(&fit, correspondences, threshold);
        let quality = (count, gain(&fit, correspondences, threshold));
        if quality > reached {
            (best, reached) = (Some(fit), quality);
        }
        current = fit;
    }
    Ok(best.filter(|_| reached.0 > inliers).map(|best| (best, reached.0)))
}

/// The least squares homography of what lies within `radius` of `current`; None unless it is believable there.
fn step(
    current: &Homography,
    correspondences: &[[f32; 4]],
    radius: f64,
    weighted: bool,
) -> Option<Homography> {
    let inverse = 1.0 / (radius * radius);
    let near = || {
        correspondences.iter().filter_map(|point| {
            let point = point.map(f64::from);
            let share = 1.0 - current.squared_residual(point) * inverse;
            // The algebraic error is the geometric one times the denominator.
            let depth = current.depth(point[0], point[1]);
            (share >= 0.0).then(|| (point, if weighted { share } else { 1.0 } / (depth * depth)))
        })
    };
    let fit = least_squares(near())?;
    let mut frame = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    for ([x, y, ..], _) in near() {
        frame = [frame[0].min(x), frame[1].min(y), frame[2].max(x), frame[3].max(y)];
    }
    fit.believable(frame, &Limits::DEFAULT).then_some(fit)
}

fn count(model: &Homography, correspondences: &[[f32; 4]], threshold: f64) -> usize {
    let square = threshold * threshold;
    correspondences.iter().filter(|point| model.squared_residual(point.map(f64::from)) <= square).count()
}

fn gain(model: &Homography, correspondences: &[[f32; 4]], threshold: f64) -> f64 {
    let inverse = 1.0 / (threshold * threshold);
    let share = |point: &[f32; 4]| 1.0 - model.squared_residual(point.map(f64::from)) * inverse;
    correspondences.iter().map(share).filter(|&share| share > 0.0).sum()
}
