//! What the loop needs to know of a problem: propose, score, refine, as in `PoseLib`, sixteen models at a time.

use std::ops::Range;

use super::models::{Family, Limits};
use super::ransac::{Candidate, FINAL_RADIUS, Kept};
use crate::kernels::consensus::{Consensus, Fit, LANES, Lanes, Maps, Points, Scoring, Source};

/// Sixteen models.
pub trait Batch: Copy {
    /// One model.
    type Model: Copy;

    /// Sixteen models nothing agrees with.
    fn nothing() -> Self;

    /// The model in a lane.
    fn get(&self, lane: usize) -> Self::Model;

    /// Puts a model into a lane.
    fn set(&mut self, lane: usize, model: Self::Model);
}

/// A robust estimation problem.
pub trait Estimator {
    /// What is estimated, sixteen at a time.
    type Models: Batch;

    /// Number of batches of hypotheses; they are tried in order.
    fn batches(&self) -> usize;

    /// Number of hypotheses in the first so many batches.
    fn hypotheses(&self, batches: usize) -> usize;

    /// Tries the hypotheses of these batches: keeps those that most of the data agrees with within `radius`.
    /// One whose sample is degenerate or whose model is not believable is one
    /// nothing agrees with.
    fn search(&self, batches: Range<usize>, radius: f64, kept: &mut Kept<Model<Self>>);

    /// The probability that a hypothesis is a good one when `support` of the data agree with the best model.
    fn chance_of_good(&self, support: f64) -> f64;

    /// How much of the data agrees with each model as a result.
    fn support(&self, models: &Self::Models) -> Lanes;

    /// Replaces models by ones that fit the data near them (within `radius`) better, where there is enough of it.
    fn refine(&self, models: &mut Self::Models, radius: f64);

    /// Refines a single model at each of the radii in turn; the result and its support.
    fn polish(&self, model: Model<Self>, radii: &[f64]) -> Candidate<Model<Self>>;
}

/// A model of a problem.
pub type Model<E> = <<E as Estimator>::Models as Batch>::Model;

impl Batch for Maps {
    type Model = [f32; 6];

    fn nothing() -> Self {
        [[f32::NAN; LANES]; 6]
    }

    fn get(&self, lane: usize) -> [f32; 6] {
        std::array::from_fn(|i| self[i][lane])
    }

    fn set(&mut self, lane: usize, model: [f32; 6]) {
        for (values, value) in self.iter_mut().zip(model) {
            values[lane] = value;
        }
    }
}

/// Correspondences hypotheses are scored with at most; they are in random order. Results are judged by all.
const SCORED: usize = 128;

/// What a refinement within `radius` looks at: steps on the way need no more than a sample.
fn scoring(radius: f64) -> Scoring {
    let most = if radius > FINAL_RADIUS { SCORED } else { usize::MAX };
    Scoring { most, squared_radius: (radius * radius) as f32 }
}

/// Where hypotheses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proposals {
    /// One correspondence each: the similarity its keypoints suggest ([`Points::fill_keypoints`]).
    Keypoints,
    /// Two correspondences each: a similarity; at most so many batches of sixteen.
    Pairs(usize),
    /// Three correspondences each: an affine map; at most so many batches of sixteen.
    Triples(usize),
}

/// The estimation of a planar map from correspondences whose coordinates are in units of the inlier threshold.
#[derive(Debug)]
pub struct Correspondences<'a> {
    /// The correspondences, in random order.
    pub points: &'a Points,
    /// The kernels.
    pub consensus: Consensus,
    /// The source of hypotheses.
    pub proposals: Proposals,
    /// Of triples: how far the second and the third correspondence lie from the first ([`super::sampling`]).
    pub samples: &'a [[u32; 2]],
    /// Which models are believed.
    pub limits: Limits,
    /// The richest family of models that is fitted.
    pub family: Family,
}

impl Correspondences<'_> {
    fn fit(&self) -> Fit {
        Fit {
            similarity: self.family >= Family::Similarity,
            affine: self.family >= Family::Affine,
            area: self.limits.area(),
            spread: self.limits.spread(),
        }
    }

    fn source(&self) -> Source<'_> {
        let (area, spread) = (self.limits.area(), self.limits.spread());
        match self.proposals {
            Proposals::Keypoints => Source::Keypoints,
            Proposals::Pairs(_) => Source::Pairs { area },
            Proposals::Triples(_) => Source::Triples { samples: self.samples, area, spread },
        }
    }
}

impl Estimator for Correspondences<'_> {
    type Models = Maps;

    fn batches(&self) -> usize {
        let per_round = self.points.batches();
        match self.proposals {
            Proposals::Keypoints => per_round,
            // Offsets up to half the number pair every two correspondences once.
            Proposals::Pairs(most) => (self.points.len() / 2 * per_round).min(most),
            Proposals::Triples(most) => (self.samples.len() * per_round).min(most),
        }
    }

    fn hypotheses(&self, batches: usize) -> usize {
        // The last batch of a round has a hypothesis for each correspondence that is left.
        let per_round = self.points.batches();
        batches / per_round * self.points.len() + batches % per_round * LANES
    }

    fn search(&self, batches: Range<usize>, radius: f64, kept: &mut Kept<[f32; 6]>) {
        let scoring = Scoring { most: SCORED, squared_radius: (radius * radius) as f32 };
        let bar = kept.bar();
        self.consensus.scan(self.points, &self.source(), batches, &scoring, bar, &mut |score, maps, lane| {
            kept.offer(Candidate { model: maps.get(lane), score });
            kept.bar()
        });
    }

    fn chance_of_good(&self, support: f64) -> f64 {
        let share = support / self.points.len() as f64;
        match self.proposals {
            Proposals::Keypoints => share,
            Proposals::Pairs(_) => share * share,
            Proposals::Triples(_) => share * share * share,
        }
    }

    fn support(&self, models: &Maps) -> Lanes {
        self.consensus.supports(self.points, models)
    }

    fn refine(&self, models: &mut Maps, radius: f64) {
        let Scoring { most, squared_radius } = scoring(radius);
        self.consensus.refine(self.points, most, models, squared_radius, &self.fit());
    }

    fn polish(&self, mut model: [f32; 6], radii: &[f64]) -> Candidate<[f32; 6]> {
        let mut steps = [scoring(FINAL_RADIUS); 8];
        let steps = &mut steps[..radii.len()];
        for (step, &radius) in steps.iter_mut().zip(radii) {
            *step = scoring(radius);
        }
        let score = self.consensus.polish(self.points, &mut model, steps, &self.fit());
        Candidate { model, score }
    }
}
