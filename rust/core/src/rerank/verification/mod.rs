//! Spatial verification: the map that explains most of a set of tentative correspondences.
//!
//! | file | holds |
//! |---|---|
//! | [`estimator`] | what a problem is: propose, score, refine |
//! | [`ransac`] | the loop over hypotheses and the local optimisation |
//! | [`models`] | translation, similarity, affine: minimal and least squares solutions, limits |
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
pub mod models;
pub mod ransac;

use estimator::{Correspondences, Proposals};
use models::{Affine, Limits, affine, similarity, translation};
use ransac::{Plan, estimate};

use crate::error::{Error, Result};
use crate::kernels::consensus::{Consensus, Moments, Points};

/// Pairs of correspondences tried at most; more are sampled.
pub const PAIR_BUDGET: usize = 2000;
/// Triples of correspondences tried at most; more are sampled.
pub const TRIPLE_BUDGET: usize = 1000;

const TRANSLATION: Plan<'_> =
    Plan { keep: 4, hypothesis_radius: 5.0, schedule: &[5.0, 4.0, 3.0, 2.0, 1.5, 1.2, 1.2] };
const PAIRS: Plan<'_> = Plan { keep: 8, hypothesis_radius: 2.5, schedule: &[3.0, 2.5, 2.0, 1.5, 1.2, 1.2] };
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
        let found = sources.into_iter().filter_map(|(proposals, plan)| estimate(&problem(proposals), plan));
        // The earlier, simpler source wins a tie.
        let best = found.reduce(|best, next| if next.score > best.score { next } else { best });
        (best, points.len() + pairs.len() + triples.len())
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

/// Coordinates centred on either side's mean, in units of the threshold.
#[derive(Debug, Clone, Copy)]
struct Frame {
    centre: [f64; 4],
    unit: f64,
}

impl Frame {
    fn around(correspondences: &[[f32; 4]], threshold: f64) -> Self {
        let mut centre = [0.0; 4];
        for point in correspondences {
            for (sum, &value) in centre.iter_mut().zip(point) {
                *sum += f64::from(value) / correspondences.len() as f64;
            }
        }
        Self { centre, unit: threshold }
    }

    fn normalise(&self, point: [f32; 4]) -> [f32; 4] {
        // Clamped so that squares stay finite; anything that far away is an outlier of every map.
        std::array::from_fn(|i| {
            ((f64::from(point[i]) - self.centre[i]) / self.unit).clamp(-1e12, 1e12) as f32
        })
    }

    /// A map of normalised coordinates as one of the coordinates given.
    fn denormalise(&self, map: &Affine) -> Affine {
        let [a, b, c, d, e, f] = map.0;
        let [x, y, u, v] = self.centre;
        Affine([a, b, u + c * self.unit - (a * x + b * y), d, e, v + f * self.unit - (d * x + e * y)])
    }

    /// A map of the coordinates given as one of normalised coordinates.
    fn apply(&self, map: &Affine) -> Affine {
        let [a, b, _, d, e, _] = map.0;
        let [x, y, u, v] = self.centre;
        let (p, q) = map.apply(x, y);
        Affine([a, b, (p - u) / self.unit, d, e, (q - v) / self.unit])
    }
}

/// Fits translation, similarity and affine maps to the inliers in float64, and keeps what explains most.
///
/// More inliers win; among equals the smaller truncated loss, unless a simpler family loses almost nothing.
fn finish(start: Affine, correspondences: &[[f32; 4]], threshold: f64) -> Affine {
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

/// All samples `i < j` (`< k`) if they fit the budget, else that many drawn with a seed of their own.
fn choose<const N: usize>(count: usize, budget: usize, samples: &mut Vec<[u32; N]>) {
    samples.clear();
    let all = (0..N).fold(1, |product: usize, i| product.saturating_mul(count.saturating_sub(i)) / (i + 1));
    if all <= budget {
        let mut sample: [u32; N] = std::array::from_fn(|i| i as u32);
        for _ in 0..all {
            samples.push(sample);
            // The next combination in lexicographic order.
            let room = |i: usize| (count - N + i) as u32;
            if let Some(i) = (0..N).rev().find(|&i| sample[i] < room(i)) {
                sample[i] += 1;
                for j in i + 1..N {
                    sample[j] = sample[j - 1] + 1;
                }
            }
        }
        return;
    }
    let mut random = SplitMix(0x1F83_D9AB_FB41_BD6B ^ count as u64);
    while samples.len() < budget {
        let sample: [u32; N] = std::array::from_fn(|_| random.below(count as u64));
        if (1..N).all(|i| !sample[..i].contains(&sample[i])) {
            samples.push(sample);
        }
    }
}

/// splitmix64: small, seeded, the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((u128::from(z) * u128::from(bound)) >> 64) as u32
    }
}
