//! Spatial verification: the map that explains most of a set of tentative correspondences.
//!
//! | file | holds |
//! |---|---|
//! | [`estimator`] | what a problem is: propose, score, refine |
//! | [`ransac`] | the loop over hypotheses and the local optimisation |
//! | [`models`] | translation, similarity, affine, homography: minimal and least squares solutions, limits |
//! | [`projective`] | the homography that explains more than the affine map |
//! | `frame`, `sampling`, `fit` | coordinates, order of samples, the final fit |
//! | `plausible` | the most plausible map where chance explains as many inliers |
//! | [`instances`] | several instances in one image |
//! | [`significance`](significance()) | the score that is corrected for chance |
//! | [`chance`] | what random correspondences reach, and a score that is zero for it |
//!
//! Hypotheses: with keypoint scale and angle, a similarity from each correspondence; without, a similarity from
//! each pair and an affine map from each triple, all of them up to a budget and a seeded sample beyond it: pairs find
//! few inliers among many outliers, triples strong foreshortening. The loop ends early when enough good
//! hypotheses are expected among those tried. The best are refined by weighted least squares, similarity first and
//! affine once enough agrees, while the radius shrinks to the threshold. Hypotheses and refinement run in float32 on
//! centred coordinates in units of the threshold; the final fit, the mask and the count are float64 on the
//! coordinates as given.
//!
//! A model that random correspondences would have matched as well many times over ([`TOLERATED`]) is not believed:
//! the most plausible of few correspondences stands in for it, or the best translation, the paper's hypothesis.

pub mod chance;
pub mod estimator;
mod fit;
mod frame;
pub mod instances;
pub mod models;
mod plausible;
mod projective;
pub mod ransac;
mod sampling;
mod significance;

use std::cell::Cell;

use estimator::{Correspondences, Proposals};
use fit::finish;
use frame::Frame;
use models::homography::Homography;
use models::{Affine, Family, Limits, translation};
use ransac::{Candidate, Plan, estimate};
use sampling::Samples;
use significance::agreement_rate;
pub use significance::{distinct_inliers, significance};

use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::consensus::{Consensus, Points};
use crate::kernels::inliers::{Columns, Inliers};

/// Batches of sixteen pairs of correspondences tried at most.
const PAIR_BATCHES: usize = 128;
/// Batches of sixteen triples times correspondences: what scoring them costs.
const TRIPLE_WORK: usize = 50_000;

/// The support, and the share of all correspondences, that make a model of pairs final without a look at triples.
const CERTAIN: f32 = 12.0;
const CERTAIN_SHARE: f64 = 0.2;
/// Below this support a model may well be a part of the true one, so more triples are tried.
const PART: f32 = 8.0;

/// How many models as good may be expected among random correspondences before a model found is given up.
///
/// Generous: correspondences that are few and all right often look like chance. Chosen with `bench/rerank.py`.
pub const TOLERATED: f64 = 100.0;

/// Rows of the table of all pairs that are looked at to decide that.
const LOOKED_AT: usize = 32;
/// The same where so many suffice, as they mostly do: if the model were believed at a rate that many times higher.
const GLANCED_AT: usize = 8;
const MARGIN: f64 = 4.0;

const PAIRS: Plan<'_> = Plan {
    keep: 16,
    hypothesis_radius: 2.5,
    schedule: &[3.0, 2.2, 1.6, 1.2],
    enough: 5.0,
    glance: Some((5.0, &[5.0, 4.0, 3.0, 2.0, 1.5, 1.2])),
};
const TRIPLES: Plan<'_> =
    Plan { keep: 16, hypothesis_radius: 2.0, schedule: &[2.0, 1.5, 1.2, 1.2], enough: 3.0, glance: None };
const TRIPLES_OF_PART: Plan<'_> = Plan { enough: 6.0, ..TRIPLES };
const KEYPOINTS: Plan<'_> = Plan {
    keep: 8,
    hypothesis_radius: 3.0,
    schedule: &[3.0, 2.5, 2.0, 1.5, 1.2],
    enough: f64::INFINITY,
    glance: None,
};
const TRANSLATIONS: Plan<'_> = Plan {
    keep: 4,
    hypothesis_radius: 5.0,
    schedule: &[5.0, 4.0, 3.0, 2.0, 1.5, 1.2, 1.2],
    enough: f64::INFINITY,
    glance: None,
};
const TRANSLATION_ONLY: Plan<'_> =
    Plan { keep: 4, hypothesis_radius: 1.0, schedule: &[1.2], enough: f64::INFINITY, glance: None };

/// Which hypotheses are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hypotheses {
    /// What finds most for its time: similarities, from keypoints where there is geometry, else from pairs.
    #[default]
    Similarity,
    /// The paper's: the translation of each correspondence.
    Translation,
}

/// Options of one verification.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Largest distance of an inlier, in the units of the database coordinates.
    pub threshold: f64,
    /// Which hypotheses are tried.
    pub hypotheses: Hypotheses,
    /// The richest family of maps that is fitted.
    pub family: Family,
    /// How many models as good may be expected among random correspondences, without scale and angle; models of
    /// which more are expected are not searched for to the end, and given up.
    pub tolerated: f64,
    /// Whether the most plausible map of few correspondences stands in for a model given up, not the best translation.
    pub plausible: bool,
}

impl Options {
    /// Affine maps within `threshold`, from the default hypotheses.
    pub const fn within(threshold: f64) -> Self {
        let hypotheses = Hypotheses::Similarity;
        Self { threshold, hypotheses, family: Family::Affine, tolerated: TOLERATED, plausible: true }
    }
}

/// What spatial verification finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// The map from query to database coordinates; None if no map has an inlier (no correspondences).
    pub model: Option<Affine>,
    /// The homography, where one was asked for and chance explains its inliers less well than those of `model`:
    /// then it is the map the inliers belong to, and `model` what it was found from.
    pub homography: Option<Homography>,
    /// Number of inliers: the true entries of [`Workspace::mask`].
    pub inliers: usize,
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
    columns: Columns,
    samples: Samples,
    positions: Vec<[u32; 2]>,
    /// The coordinates of `points`.
    frame: Option<Frame>,
    /// Which correspondences are inliers of the model found last.
    pub mask: Vec<bool>,
}

/// Finds the map that explains most of the correspondences `[x, y, u, v]`.
///
/// The mask is exactly `|A q_j + t - d_j| <= threshold` in float64 for the model returned. The answer is
/// deterministic and the same at every CPU level.
///
/// Complexity: O(min(t^2, budget) * t).
pub fn verify(
    correspondences: &[[f32; 4]],
    geometry: Option<Geometry<'_>>,
    options: &Options,
    workspace: &mut Workspace,
    control: &Control,
) -> Result<Verification> {
    let Options { threshold, tolerated, .. } = *options;
    let family = options.family.min(Family::Affine);
    if !(threshold.is_finite() && threshold > 0.0) {
        return Err(Error::parameter("threshold", "a positive finite number", threshold));
    }
    let Workspace { points, columns, samples, mask, frame: kept, .. } = workspace;
    if correspondences.is_empty() {
        mask.clear();
        return Ok(Verification { model: None, homography: None, inliers: 0, hypotheses: 0 });
    }
    let exact = Inliers::new()?;
    let centre = exact.fill(correspondences, columns);
    // A sum of float32 numbers in float64 is finite if they are.
    if !centre.iter().all(|value| value.is_finite()) {
        return Err(not_finite(correspondences));
    }
    let frame = Frame::around(centre, threshold);
    *kept = Some(frame);
    let sample = samples.of(correspondences.len(), control)?;
    control.check()?;
    let consensus = Consensus::new()?;
    consensus.fill(points, correspondences, &sample.order, &frame.scaling());
    let least = Cell::new(None);
    let run = |points: &Points, samples: &[[u32; 2]], proposals, family, plan: &Plan<'_>, known| {
        let limits = Limits::DEFAULT;
        let problem = Correspondences { points, consensus, proposals, samples, limits, family };
        // Keypoints and translations are all tried.
        let searched = !matches!(proposals, Proposals::Keypoints);
        let least = || match (searched, least.get()) {
            (false, _) => Ok(0.0),
            (true, Some(least)) => Ok(least),
            (true, None) => {
                let found = least_support(points, tolerated, consensus, control)?;
                least.set(Some(found));
                Ok(found)
            }
        };
        control.check()?;
        estimate(&problem, plan, known, least, control)
    };
    let finish = |best: Option<Candidate<[f32; 6]>>, family| {
        let first = || translation::from_correspondence(correspondences[0].map(f64::from));
        let start = best.map_or_else(first, |best| frame.denormalise(&Affine::from_map(best.model)));
        finish(start, columns, threshold, family, exact, control)
    };
    let mut model;
    let mut hypotheses;
    if options.hypotheses == Hypotheses::Translation || geometry.is_some() {
        let mut plan = &TRANSLATIONS;
        match geometry.filter(|_| options.hypotheses == Hypotheses::Similarity) {
            Some(geometry) => {
                points.fill_keypoints(sample.order.iter().map(|&j| linear_part(geometry.ratios[j as usize])));
                plan = &KEYPOINTS;
            }
            None => points.fill_translations(),
        }
        let outcome = run(points, &[], Proposals::Keypoints, family, plan, 0.0)?;
        (model, hypotheses) = (finish(outcome.best, family)?.0, outcome.hypotheses);
    } else {
        let pairs = run(points, &[], Proposals::Pairs(PAIR_BATCHES), family, &PAIRS, 0.0)?;
        hypotheses = pairs.hypotheses;
        let mut best = pairs.best;
        let known = best.map_or(0.0, |best| best.score);
        let certain = known >= CERTAIN && f64::from(known) >= CERTAIN_SHARE * points.len() as f64;
        if family == Family::Affine && !certain {
            let batches = TRIPLE_WORK / points.len().min(128);
            let triples = sample.triples(batches.div_ceil(points.batches()));
            let plan = if known < PART { &TRIPLES_OF_PART } else { &TRIPLES };
            let outcome = run(points, triples, Proposals::Triples(batches), family, plan, known)?;
            hypotheses += outcome.hypotheses;
            best = outcome.best.or(best);
        }
        let inliers;
        (model, inliers) = finish(best, family)?;
        let map = frame.apply(&model);
        let believed = |rows: usize, margin: f64| {
            let rate = agreement_rate(|x, y| map.apply(x, y), points, inliers, rows, consensus, control)?;
            let rate = (margin * rate).min(1.0);
            Ok(chance::expects_at_most(tolerated.ln(), correspondences.len(), inliers, rate))
        };
        if !(believed(GLANCED_AT, MARGIN)? || believed(LOOKED_AT, 1.0)?) {
            let plausible = options.plausible && plausible::are_few(points.len());
            let family = if plausible { family } else { Family::Translation };
            let outcome = if plausible {
                plausible::most_plausible(points, family, &Limits::DEFAULT, consensus, control)?
            } else {
                points.fill_translations();
                run(points, &[], Proposals::Keypoints, family, &TRANSLATION_ONLY, 0.0)?
            };
            model = finish(outcome.best, family)?.0;
            hypotheses += outcome.hypotheses;
        }
    }
    let inliers = exact.mask(columns, &model.0, threshold, mask);
    let model = (inliers > 0).then_some(model);
    let mut found = Verification { model, homography: None, inliers, hypotheses };
    if options.family == Family::Homography {
        projective::improve(&mut found, correspondences, &frame, threshold, workspace, control)?;
    }
    Ok(found)
}

/// The linear part `[p -q; q p]` of the similarity of a ratio of scales and a difference of angles; not a number
/// unless believable.
fn linear_part([scale, angle]: [f64; 2]) -> [f32; 2] {
    let (p, q) = (scale * angle.cos(), scale * angle.sin());
    if Limits::DEFAULT.allow(&Affine([p, -q, 0.0, q, p, 0.0])) { [p as f32, q as f32] } else { [f32::NAN; 2] }
}

/// The support below which `tolerated` or more models are expected by chance: what lies below is not searched for.
///
/// One of the correspondences agrees by chance with the share of the database points' area that the radius covers.
fn least_support(points: &Points, tolerated: f64, consensus: Consensus, control: &Control) -> Result<f32> {
    let [width, height] = consensus.extent(points).map(|extent| f64::from(extent).max(1.0));
    let rate = (std::f64::consts::PI / (width * height)).min(1.0);
    let (t, limit) = (points.len(), tolerated.ln());
    for n in chance::FREE + 1..t {
        if chance::expects_at_most(limit, t, n, rate) {
            return Ok(n as f32);
        }
        control.check()?;
    }
    Ok(t as f32)
}

/// The error that names the first coordinate that is not a finite number.
fn not_finite(correspondences: &[[f32; 4]]) -> Error {
    let flat = correspondences.as_flattened();
    let place = flat.iter().position(|value| !value.is_finite()).unwrap_or(0);
    let what = if place % 4 < 2 { "query_xy" } else { "database_xy" };
    Error::NonFinite { what: what.into(), row: place / 4, column: place % 2, value: flat[place] }
}
