//! The loop: hypotheses in order until enough are tried, then local optimisation of the best few.
//!
//! Optimising the best few afterwards finds more than optimising at each new best (LO-RANSAC), because the best
//! minimal model is often not the one that grows most. Nothing is random here: a problem that samples its
//! hypotheses does so with its own seed.

use super::estimator::{Batch, Estimator};
use crate::kernels::consensus::{LANES, Lanes};

/// Refinements at larger radii are steps on the way, not results.
const FINAL_RADIUS: f64 = 1.5;

/// The plan of a loop. Radii are in units of the inlier threshold.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// How many hypotheses are optimised.
    pub keep: usize,
    /// Radius hypotheses are scored with: as wide as they are inaccurate.
    pub hypothesis_radius: f64,
    /// Radii of the refinement steps, from wide to the threshold.
    pub schedule: &'a [f64],
    /// The loop ends when this many good hypotheses are expected among those tried.
    pub enough: f64,
}

/// A model and its score at radius 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate<M> {
    /// The model.
    pub model: M,
    /// Its score.
    pub score: f32,
}

/// What a loop found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome<M> {
    /// The best model seen at radius 1; None if none beats what was known.
    pub best: Option<Candidate<M>>,
    /// Hypotheses tried.
    pub hypotheses: usize,
}

type Model<E> = <<E as Estimator>::Models as Batch>::Model;

/// Tries hypotheses, optimises the best, and returns the best model. Among equal scores the earlier wins.
///
/// `known` is the score of a model found otherwise: it tells how many hypotheses are enough, and is to be beaten.
pub fn estimate<E: Estimator>(problem: &E, plan: &Plan<'_>, known: f32) -> Outcome<Model<E>> {
    let mut kept: Vec<Candidate<Model<E>>> = Vec::with_capacity(plan.keep + 1);
    let needed = |score: f32| plan.enough / problem.chance_of_good(f64::from(score));
    let (mut hypotheses, mut enough, mut highest) = (0, needed(known), known);
    for index in 0..problem.batches() {
        let (models, count) = problem.propose(index);
        let scores = problem.score(&models, plan.hypothesis_radius);
        hypotheses += count;
        let bar = if kept.len() < plan.keep { 0.0 } else { kept.last().map_or(0.0, |worst| worst.score) };
        if above(&scores, bar) {
            for (lane, &score) in scores.iter().enumerate().take(count) {
                keep(&mut kept, plan.keep, score, || models.get(lane));
            }
            if let Some(best) = kept.first().filter(|best| best.score > highest) {
                highest = best.score;
                enough = needed(highest);
            }
        }
        if hypotheses as f64 >= enough {
            break;
        }
    }
    let mut best: Option<Candidate<Model<E>>> = None;
    for kept in kept.chunks(LANES) {
        let mut models = E::Models::nothing();
        for (lane, candidate) in kept.iter().enumerate() {
            models.set(lane, candidate.model);
        }
        let mut consider = |models: &E::Models| {
            for (lane, &score) in problem.score(models, 1.0).iter().enumerate() {
                if score > best.map_or(known, |best| best.score) {
                    best = Some(Candidate { model: models.get(lane), score });
                }
            }
        };
        consider(&models);
        for &radius in plan.schedule {
            problem.refine(&mut models, radius);
            if radius <= FINAL_RADIUS {
                consider(&models);
            }
        }
    }
    Outcome { best, hypotheses }
}

/// Whether any score is above the bar.
fn above(scores: &Lanes, bar: f32) -> bool {
    scores.iter().fold(false, |any, &score| any | (score > bar))
}

/// Inserts a candidate among the best, if it is one of them.
fn keep<M>(kept: &mut Vec<Candidate<M>>, most: usize, score: f32, model: impl FnOnce() -> M) {
    let bar = if kept.len() < most { 0.0 } else { kept.last().map_or(0.0, |worst| worst.score) };
    if score > bar {
        let place = kept.partition_point(|other| other.score >= score);
        kept.insert(place, Candidate { model: model(), score });
        kept.truncate(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A one-dimensional location problem: data on a line, a model is a position.
    struct Location(Vec<f32>);

    impl Batch for Lanes {
        type Model = f32;

        fn nothing() -> Self {
            [f32::NAN; LANES]
        }

        fn get(&self, lane: usize) -> f32 {
            self[lane]
        }

        fn set(&mut self, lane: usize, model: f32) {
            self[lane] = model;
        }
    }

    impl Estimator for Location {
        type Models = Lanes;

        fn batches(&self) -> usize {
            self.0.len().div_ceil(LANES)
        }

        fn propose(&self, batch: usize) -> (Lanes, usize) {
            let part = &self.0[batch * LANES..self.0.len().min((batch + 1) * LANES)];
            let mut models = Lanes::nothing();
            models[..part.len()].copy_from_slice(part);
            (models, part.len())
        }

        fn chance_of_good(&self, score: f64) -> f64 {
            score / self.0.len() as f64
        }

        fn score(&self, models: &Lanes, radius: f64) -> Lanes {
            models.map(|model| {
                let share = |x: &f32| (1.0 - ((x - model) / radius as f32).powi(2)).max(0.0);
                self.0.iter().map(share).filter(|share| !share.is_nan()).sum()
            })
        }

        fn refine(&self, models: &mut Lanes, radius: f64) {
            for model in models {
                let near: Vec<f32> =
                    self.0.iter().copied().filter(|x| (x - *model).abs() <= radius as f32).collect();
                if !near.is_empty() {
                    *model = near.iter().sum::<f32>() / near.len() as f32;
                }
            }
        }
    }

    const PLAN: Plan<'_> =
        Plan { keep: 2, hypothesis_radius: 2.0, schedule: &[2.0, 1.0, 1.0], enough: f64::INFINITY };

    #[test]
    fn finds_and_refines_the_largest_cluster() {
        let best = estimate(&Location(vec![50.0, 9.6, 10.0, 10.5, -3.0, f32::NAN]), &PLAN, 0.0).best.unwrap();
        assert!((best.model - (9.6 + 10.0 + 10.5) / 3.0).abs() < 1e-5, "{best:?}");
    }

    #[test]
    fn stops_when_enough_good_hypotheses_are_expected() {
        let data = Location((0..200).map(|i| if i % 2 == 0 { 5.0 } else { i as f32 * 100.0 }).collect());
        let all = estimate(&data, &PLAN, 0.0);
        let some = estimate(&data, &Plan { enough: 10.0, ..PLAN }, 0.0);
        assert_eq!(all.hypotheses, 200);
        assert_eq!(some.hypotheses, 32, "ten good ones among twenty, in batches of sixteen");
        assert_eq!(all.best, some.best);
    }

    #[test]
    fn earlier_hypothesis_wins_a_tie_and_nothing_gives_none() {
        let best = estimate(&Location(vec![7.0, 100.0]), &PLAN, 0.0).best.unwrap();
        assert_eq!(best.model.to_bits(), 7.0_f32.to_bits());
        assert_eq!(estimate(&Location(vec![f32::NAN]), &PLAN, 0.0).best, None);
        assert_eq!(estimate(&Location(vec![]), &PLAN, 0.0), Outcome { best: None, hypotheses: 0 });
    }
}
