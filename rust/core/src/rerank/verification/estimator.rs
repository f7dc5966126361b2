//! What the loop needs to know of a problem: three methods, as in `PoseLib`.

use super::models::{Affine, Limits, affine, similarity, translation};
use crate::kernels::consensus::{Consensus, LANES, Moments, Points};

/// A robust estimation problem.
pub trait Estimator {
    /// What is estimated.
    type Model: Copy;

    /// Number of hypotheses; they are tried in order.
    fn hypotheses(&self) -> usize;

    /// Hypothesis `index`, or None if its sample is degenerate or its model not believable.
    fn hypothesis(&self, index: usize) -> Option<Self::Model>;

    /// How much of the data agrees with each model within `radius`: larger is better, 0 is nothing.
    fn score(&self, models: &[Self::Model], radius: f64, scores: &mut [f64]);

    /// A model that fits the data near `model` (within `radius`) better, or None if there is too little of it.
    fn refine(&self, model: &Self::Model, radius: f64) -> Option<Self::Model>;
}

/// Where hypotheses come from.
#[derive(Debug)]
pub enum Proposals<'a> {
    /// One correspondence each: a translation.
    Translation,
    /// One correspondence each, with the ratio of scales and the difference of angles of its two keypoints.
    Keypoints(&'a [[f64; 2]]),
    /// Two correspondences each: a similarity.
    Pairs(&'a [[u32; 2]]),
    /// Three correspondences each: an affine map.
    Triples(&'a [[u32; 3]]),
}

/// The estimation of a planar map from correspondences whose coordinates are in units of the inlier threshold.
#[derive(Debug)]
pub struct Correspondences<'a> {
    /// The correspondences.
    pub points: &'a Points,
    /// The kernels.
    pub consensus: Consensus,
    /// The source of hypotheses.
    pub proposals: Proposals<'a>,
    /// Which models are believed.
    pub limits: Limits,
}

impl Correspondences<'_> {
    fn point(&self, index: usize) -> [f64; 4] {
        self.points.get(index).map(f64::from)
    }
}

impl Estimator for Correspondences<'_> {
    type Model = Affine;

    fn hypotheses(&self) -> usize {
        match self.proposals {
            Proposals::Translation => self.points.len(),
            Proposals::Keypoints(geometry) => geometry.len(),
            Proposals::Pairs(pairs) => pairs.len(),
            Proposals::Triples(triples) => triples.len(),
        }
    }

    fn hypothesis(&self, index: usize) -> Option<Affine> {
        let model = match self.proposals {
            Proposals::Translation => translation::from_correspondence(self.point(index)),
            Proposals::Keypoints(geometry) => {
                let [scale, angle] = geometry[index];
                similarity::from_keypoints(self.point(index), scale, angle)
            }
            Proposals::Pairs(pairs) => {
                let [first, second] = pairs[index].map(|j| self.point(j as usize));
                similarity::from_two(first, second)?
            }
            Proposals::Triples(triples) => {
                affine::from_three(triples[index].map(|j| self.point(j as usize)))?
            }
        };
        self.limits.allow(&model).then_some(model)
    }

    fn score(&self, models: &[Affine], radius: f64, scores: &mut [f64]) {
        for (models, scores) in models.chunks(LANES).zip(scores.chunks_mut(LANES)) {
            let mut maps = [[0.0; 6]; LANES];
            for (map, model) in maps.iter_mut().zip(models) {
                *map = model.to_map();
            }
            let gains = self.consensus.gains(self.points, &maps[..models.len()], (radius * radius) as f32);
            for (score, gain) in scores.iter_mut().zip(gains) {
                *score = f64::from(gain);
            }
        }
    }

    fn refine(&self, model: &Affine, radius: f64) -> Option<Affine> {
        let moments = self.consensus.moments(self.points, &model.to_map(), (radius * radius) as f32);
        best_fit(&moments, &self.limits)
    }
}

/// The richest believable model the weight supports: affine from a weight of 3.5 (four or more correspondences
/// near the model), similarity from 1.5, else translation.
fn best_fit(moments: &Moments, limits: &Limits) -> Option<Affine> {
    let believed = |model: &Affine| limits.allow(model);
    let affine = || (moments.w >= 3.5).then(|| affine::least_squares(moments)).flatten().filter(believed);
    let similarity =
        || (moments.w >= 1.5).then(|| similarity::least_squares(moments)).flatten().filter(believed);
    affine().or_else(similarity).or_else(|| translation::least_squares(moments).filter(believed))
}
