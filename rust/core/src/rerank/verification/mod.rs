//! Spatial verification: the map that explains most of a set of tentative correspondences.
//!
//! | file | holds |
//! |---|---|
//! | [`estimator`] | what a problem is: propose, score, refine |
//! | [`ransac`] | the loop over hypotheses and the local optimisation |
//! | [`models`] | translation, similarity, affine: minimal and least squares solutions, limits |
//! | `frame`, `sampling`, `fit` | coordinates, choice of samples, the final fit |
//! | [`chance`] | a score that is zero for what random correspondences reach |
//!
//! Hypotheses: with keypoint scale and angle, a similarity from each correspondence. Without, a translation from
//! each (with a wide basin), a similarity from each pair and an affine map from each triple, all of them up to a
//! budget and a seeded sample beyond it: pairs find few inliers among many outliers, triples strong foreshortening. The best are refined by weighted least squares, similarity first and affine once enough agrees,
//! while the radius shrinks to the threshold. The hypotheses and their refinement run in float32 on centred
//! coordinates in units of the threshold; the final fit, the mask and the count are float64 on the coordinates as
//! given.

pub mod chance;
pub mod estimator;
mod fit;
mod frame;
pub mod models;
pub mod ransac;
mod sampling;

use estimator::{Correspondences, Estimator, Proposals};
use fit::finish;
use frame::Frame;
use models::{Affine, Limits, translation};
use ransac::{Candidate, Plan, estimate};
use sampling::choose;

use crate::error::{Error, Result};
use crate::kernels::consensus::{Consensus, Points};

/// Pairs of correspondences tried at most; more are sampled.
pub const PAIR_BUDGET: usize = 2000;
/// Triples of correspondences tried at most; more are sampled.
pub const TRIPLE_BUDGET: usize = 1000;

const TRANSLATION: Plan<'_> =
    Plan { keep: 4, hypothesis_radius: 5.0, schedule: &[5.0, 4.0, 3.0, 2.0, 1.5, 1.2, 1.2] };
const PAIRS: Plan<'_> = Plan { keep: 16, hypothesis_radius: 2.5, schedule: &[3.0, 2.5, 2.0, 1.5, 1.2, 1.2] };
const TRIPLES: Plan<'_> = Plan { keep: 4, hypothesis_radius: 2.0, schedule: &[2.0, 1.5, 1.2, 1.2] };
const KEYPOINTS: Plan<'_> = Plan { keep: 8, hypothesis_radius: 3.0, schedule: &[3.0, 2.5, 2.0, 1.5, 1.2] };

/// What spatial verification finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// The map from query to database coordinates; None if no map has an inlier (no correspondences).
    pub model: Option<Affine>,
    /// Number of inliers: the true entries of [`Workspace::mask`].
    pub inliers: usize,
    /// Inliers with distinct positions, in whichever image has fewer: several descriptors at one spot count once.
    pub distinct: usize,
    /// Hypotheses tried.
    pub hypotheses: usize,
}

/// Scale and angle of the keypoints of each correspondence.
#[derive(Debug, Clone, Copy)]
pub struct Geometry<'a> {
    /// For each correspondence the ratio of keypoint scales, database / query, in the units of the coordinates,
    /// and the difference of angles, database - query, in radians.
    pub ratios: &'a [[f64; 2]],
}

/// Buffers kept between verifications.
#[derive(Debug, Default)]
pub struct Workspace {
    points: Points,
    pairs: Vec<[u32; 2]>,
    triples: Vec<[u32; 3]>,
    positions: Vec<[u32; 2]>,
    /// Which correspondences are inliers of the model found last.
    pub mask: Vec<bool>,
}

/// Finds the map that explains most of the correspondences `[x, y, u, v]` within `threshold`.
///
/// The mask is exactly `|A q_j + t - d_j| <= threshold` in float64 for the model returned. The answer is
/// deterministic and the same at every CPU level.
pub fn verify(
    correspondences: &[[f32; 4]],
    geometry: Option<Geometry<'_>>,
    threshold: f64,
    workspace: &mut Workspace,
) -> Result<Verification> {
    check(correspondences, threshold)?;
    let Workspace { points, pairs, triples, positions, mask } = workspace;
    mask.clear();
    mask.resize(correspondences.len(), false);
    if correspondences.is_empty() {
        return Ok(Verification { model: None, inliers: 0, distinct: 0, hypotheses: 0 });
    }
    let frame = Frame::around(correspondences, threshold);
    points.fill(correspondences.iter().map(|&point| frame.normalise(point)));
    let consensus = Consensus::new()?;
    let problem = |proposals| Correspondences { points, consensus, proposals, limits: Limits::DEFAULT };
    let (best, hypotheses) = if let Some(geometry) = geometry {
        let best = estimate(&problem(Proposals::Keypoints(geometry.ratios)), &KEYPOINTS);
        (best, geometry.ratios.len())
    } else {
        choose(points.len(), PAIR_BUDGET, pairs);
        choose(points.len(), TRIPLE_BUDGET, triples);
        let sources = [
            (Proposals::Translation, &TRANSLATION),
            (Proposals::Pairs(pairs), &PAIRS),
            (Proposals::Triples(triples), &TRIPLES),
        ];
        let mut best: Option<Candidate<Affine>> = None;
        let mut tried = 0;
        for (proposals, plan) in sources {
            let source = problem(proposals);
            tried += source.hypotheses();
            // The earlier, simpler source wins a tie.
            let found = estimate(&source, plan);
            best = found.filter(|found| best.is_none_or(|best| found.score > best.score)).or(best);
            // What explains more than half can only be beaten by a map that shares correspondences with it, and
            // its refinement has been there.
            if best.is_some_and(|best| 2.0 * best.score > points.len() as f64) {
                break;
            }
        }
        (best, tried)
    };
    let start = best.map_or_else(
        || translation::from_correspondence(correspondences[0].map(f64::from)),
        |best| frame.denormalise(&best.model),
    );
    let model = finish(start, correspondences, threshold);
    let mut inliers = 0;
    for (inside, &point) in mask.iter_mut().zip(correspondences) {
        *inside = model.residual(point.map(f64::from)) <= threshold;
        inliers += usize::from(*inside);
    }
    let found =
        || correspondences.iter().zip(mask.iter()).filter_map(|(point, &inside)| inside.then_some(point));
    let distinct = distinct(found, positions);
    Ok(Verification { model: (inliers > 0).then_some(model), inliers, distinct, hypotheses })
}

/// The chance-corrected score of a verification (see [`chance`]); 0 without a model.
pub fn significance(
    found: &Verification,
    correspondences: &[[f32; 4]],
    threshold: f64,
    workspace: &mut Workspace,
) -> Result<f64> {
    let Some(model) = found.model else { return Ok(0.0) };
    let t = correspondences.len();
    if found.distinct <= 3 {
        return Ok(0.0);
    }
    let frame = Frame::around(correspondences, threshold);
    workspace.points.fill(correspondences.iter().map(|&point| frame.normalise(point)));
    let consensus = Consensus::new()?;
    let normalised = frame.apply(&model).to_map();
    let mut agreeing = 0_u64;
    for (j, inside) in workspace.mask.iter().enumerate() {
        let [x, y, _, _] = workspace.points.get(j);
        let u = normalised[0] * x + normalised[1] * y + normalised[2];
        let v = normalised[3] * x + normalised[4] * y + normalised[5];
        let near = consensus.near(&workspace.points, u, v, 1.0);
        agreeing += u64::from(near).saturating_sub(u64::from(*inside));
    }
    // One pseudo-observation keeps the rate from being zero for a handful of correspondences.
    let rate = (agreeing as f64 + 1.0) / ((t * (t - 1)) as f64 + 1.0);
    let tentative = distinct(|| correspondences.iter(), &mut workspace.positions);
    Ok(chance::score(tentative, found.distinct, rate))
}

fn check(correspondences: &[[f32; 4]], threshold: f64) -> Result<()> {
    if !(threshold.is_finite() && threshold > 0.0) {
        return Err(Error::parameter("threshold", "a positive finite number", threshold));
    }
    for (row, point) in correspondences.iter().enumerate() {
        if let Some(column) = point.iter().position(|value| !value.is_finite()) {
            let what = if column < 2 { "query_xy" } else { "database_xy" };
            return Err(Error::NonFinite {
                what: what.into(),
                row,
                column: column % 2,
                value: point[column],
            });
        }
    }
    Ok(())
}

/// The number of distinct positions, in whichever image has fewer.
fn distinct<'a, I: Iterator<Item = &'a [f32; 4]>>(
    points: impl Fn() -> I,
    buffer: &mut Vec<[u32; 2]>,
) -> usize {
    let mut count = |side: usize| {
        buffer.clear();
        // Adding zero turns -0 into 0, so that equal positions have equal bits.
        buffer.extend(points().map(|p| [(p[side] + 0.0).to_bits(), (p[side + 1] + 0.0).to_bits()]));
        buffer.sort_unstable();
        buffer.dedup();
        buffer.len()
    };
    count(0).min(count(2))
}
