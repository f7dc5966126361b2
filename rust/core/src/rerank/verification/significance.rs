//! How much better than chance a map is: what agrees with it beside its inliers, and how many inliers are distinct.

use rayon::prelude::*;

use super::{Verification, Workspace, chance};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::consensus::{Consensus, Points};
use crate::sorting::sort;

/// Pairs whose comparison is worth sharing among threads.
const LONG: usize = 1 << 24;

/// The share of pairs `i != j` with `|M(q_i) - d_j| <= threshold`, from about `rows` query points; `map` is M in the
/// coordinates of `points`.
pub(super) fn agreement_rate(
    map: impl Fn(f64, f64) -> (f64, f64) + Sync,
    points: &Points,
    inliers: usize,
    rows: usize,
    consensus: Consensus,
    control: &Control,
) -> Result<f64> {
    let step = points.len().div_ceil(rows.max(1));
    let looked_at = points.len().div_ceil(step);
    let near = |row: usize| {
        let [x, y, _, _] = points.get(row * step).map(f64::from);
        let (u, v) = map(x, y);
        u64::from(consensus.near(points, u as f32, v as f32, 1.0))
    };
    // Whole numbers: in whatever order they are added.
    let mut agreeing = 0;
    if looked_at * points.len() > LONG && rayon::current_thread_index().is_some() {
        let found = (0..looked_at).into_par_iter().map(|row| control.check().map(|()| near(row)));
        agreeing = found.try_reduce(|| 0, |a, b| Ok(a + b))?;
    } else {
        for row in 0..looked_at {
            control.check()?;
            agreeing += near(row);
        }
    }
    // The inliers themselves are no pairs i != j; a sample has its share of them.
    let own = inliers as f64 * looked_at as f64 / points.len() as f64;
    let pairs = (looked_at * (points.len() - 1)) as f64;
    // One pseudo-observation keeps the rate from being zero for a handful of correspondences.
    Ok((((agreeing as f64 - own).max(0.0) + 1.0) / (pairs + 1.0)).min(1.0))
}

/// The number of inliers with distinct positions, in whichever image has fewer: several descriptors at one spot
/// count once. After [`verify`].
pub fn distinct_inliers(
    correspondences: &[[f32; 4]],
    workspace: &mut Workspace,
    control: &Control,
) -> Result<usize> {
    let Workspace { positions, mask, .. } = workspace;
    let inliers = || correspondences.iter().zip(mask.iter()).filter_map(|(p, &inside)| inside.then_some(p));
    distinct(inliers, positions, control)
}

/// The chance-corrected score of a verification (see [`chance`]) with `distinct` inliers; 0 without a model.
/// After [`verify`] of the same correspondences.
pub fn significance(
    found: &Verification,
    distinct_inliers: usize,
    correspondences: &[[f32; 4]],
    workspace: &mut Workspace,
    control: &Control,
) -> Result<f64> {
    let Some(model) = found.model else { return Ok(0.0) };
    if distinct_inliers <= chance::FREE {
        return Ok(0.0);
    }
    let Workspace { points, positions, frame: Some(frame), .. } = workspace else { return Ok(0.0) };
    let consensus = Consensus::new()?;
    let map = frame.apply(&model);
    let (rate, free) = match &found.homography {
        None => {
            let mapped = |x, y| map.apply(x, y);
            (agreement_rate(mapped, points, found.inliers, points.len(), consensus, control)?, chance::FREE)
        }
        Some(homography) => {
            let mapped = |x, y| frame.mapped(homography, x, y);
            let rate = agreement_rate(mapped, points, found.inliers, points.len(), consensus, control)?;
            (rate, chance::FREE_PROJECTIVE)
        }
    };
    let tentative = distinct(|| correspondences.iter(), positions, control)?;
    Ok((-chance::ln_expected(tentative, distinct_inliers, free, rate)).max(0.0))
}

/// The number of distinct positions, in whichever image has fewer.
fn distinct<'a, I: Iterator<Item = &'a [f32; 4]>>(
    points: impl Fn() -> I,
    buffer: &mut Vec<[u32; 2]>,
    control: &Control,
) -> Result<usize> {
    let mut count = |side: usize| {
        buffer.clear();
        // Adding zero turns -0 into 0, so that equal positions have equal bits.
        buffer.extend(points().map(|p| [(p[side] + 0.0).to_bits(), (p[side + 1] + 0.0).to_bits()]));
        sort(buffer, control)?;
        buffer.dedup();
        Ok(buffer.len())
    };
    Ok(count(0)?.min(count(2)?))
}
