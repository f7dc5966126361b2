//! What the loop needs to know of a problem: propose, score, refine, as in `PoseLib`, sixteen models at a time.

use super::models::{Family, Limits};
use super::ransac::FINAL_RADIUS;
use crate::kernels::consensus::{Consensus, Fit, LANES, Lanes, Maps, Points};

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

    /// Hypotheses in the first `n` lanes of the result, and `n`. One whose sample is degenerate or whose model
    /// is not believable is a model nothing agrees with.
    fn propose(&self, batch: usize) -> (Self::Models, usize);

    /// The probability that a hypothesis is a good one when `support` of the data agree with the best model.
    fn chance_of_good(&self, support: f64) -> f64;

    /// How much of the data agrees with each model within `radius`: larger is better, 0 is nothing.
    fn score(&self, models: &Self::Models, radius: f64) -> Lanes;

    /// How much of the data agrees with each model as a result.
    fn support(&self, models: &Self::Models) -> Lanes;

    /// Replaces models by ones that fit the data near them (within `radius`) better, where there is enough of it.
    fn refine(&self, models: &mut Self::Models, radius: f64);
}

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
    /// Batches a round: each correspondence is in one hypothesis as the first.
    fn per_round(&self) -> usize {
        self.points.len().div_ceil(LANES)
    }
}

impl Estimator for Correspondences<'_> {
    type Models = Maps;

    fn batches(&self) -> usize {
        match self.proposals {
            Proposals::Keypoints => self.per_round(),
            // Offsets up to half the number pair every two correspondences once.
            Proposals::Pairs(most) => (self.points.len() / 2 * self.per_round()).min(most),
            Proposals::Triples(most) => (self.samples.len() * self.per_round()).min(most),
        }
    }

    fn propose(&self, batch: usize) -> (Maps, usize) {
        let (round, part) = (batch / self.per_round(), batch % self.per_round());
        let start = part * LANES;
        let maps = match self.proposals {
            Proposals::Keypoints => self.consensus.keypoints(self.points, start),
            Proposals::Pairs(_) => self.consensus.pairs(self.points, start, round + 1, self.limits.area()),
            Proposals::Triples(_) => {
                let offsets = self.samples[round].map(|offset| offset as usize);
                let (area, spread) = (self.limits.area(), self.limits.spread());
                self.consensus.triples(self.points, start, offsets, area, spread)
            }
        };
        (maps, LANES.min(self.points.len() - start))
    }

    fn chance_of_good(&self, support: f64) -> f64 {
        let share = support / self.points.len() as f64;
        match self.proposals {
            Proposals::Keypoints => share,
            Proposals::Pairs(_) => share * share,
            Proposals::Triples(_) => share * share * share,
        }
    }

    fn score(&self, models: &Maps, radius: f64) -> Lanes {
        self.consensus.gains(self.points, SCORED, models, (radius * radius) as f32)
    }

    fn support(&self, models: &Maps) -> Lanes {
        self.consensus.supports(self.points, models)
    }

    fn refine(&self, models: &mut Maps, radius: f64) {
        let fit = Fit {
            similarity: self.family >= Family::Similarity,
            affine: self.family >= Family::Affine,
            area: self.limits.area(),
            spread: self.limits.spread(),
        };
        // Steps on the way need no more than a sample.
        let most = if radius > FINAL_RADIUS { SCORED } else { usize::MAX };
        self.consensus.refine(self.points, most, models, (radius * radius) as f32, &fit);
    }
}
