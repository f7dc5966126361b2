//! The loop: hypotheses in order until enough are tried, then local optimisation of the best few.
//!
//! Optimising the best few afterwards finds more than optimising at each new best (LO-RANSAC), because the best
//! minimal model is often not the one that grows most. Nothing is random here: a problem that samples its
//! hypotheses does so with its own seed.

use super::estimator::{Batch, Estimator};
use crate::kernels::consensus::{LANES, Lanes};

/// Refinements at larger radii are steps on the way, not results.
pub const FINAL_RADIUS: f64 = 1.2;

/// Batches after which the best hypotheses are optimised to see whether enough are tried.
const MILESTONES: [usize; 3] = [4, 16, 64];

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

/// A model and its support (or, of a hypothesis, its score).
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
    /// The best model seen; None if none beats what was known.
    pub best: Option<Candidate<M>>,
    /// Hypotheses tried.
    pub hypotheses: usize,
}

type Model<E> = <<E as Estimator>::Models as Batch>::Model;

/// Tries hypotheses, optimises the best, and returns the best model. Among equal scores the earlier wins.
///
/// The best are optimised at the end and at a few [`MILESTONES`] before it, because only an optimised model tells
/// how much of the data is good, and so how many hypotheses are enough. `known` is the support of a model found
/// otherwise: it tells the same, and is to be beaten. Models of a support below `least` are of no interest.
pub fn estimate<E: Estimator>(problem: &E, plan: &Plan<'_>, known: f32, least: f32) -> Outcome<Model<E>> {
    let mut kept: Vec<Candidate<Model<E>>> = Vec::with_capacity(plan.keep + 1);
    let mut best: Option<Candidate<Model<E>>> = None;
    let needed = |support: f32| plan.enough / problem.chance_of_good(f64::from(support.max(least)));
    let (mut hypotheses, mut enough, mut optimised) = (0, needed(known), true);
    let batches = problem.batches();
    for index in 0..batches {
        let (models, count) = problem.propose(index);
        let scores = problem.score(&models, plan.hypothesis_radius);
        hypotheses += count;
        if above(&scores, bar(&kept, plan.keep)) {
            for (lane, &score) in scores.iter().enumerate().take(count) {
                if score > bar(&kept, plan.keep) {
                    let place = kept.partition_point(|other| other.score >= score);
                    kept.insert(place, Candidate { model: models.get(lane), score });
                    kept.truncate(plan.keep);
                    optimised = false;
                }
            }
        }
        let last = hypotheses as f64 >= enough || index + 1 == batches;
        if !optimised && (last || MILESTONES.contains(&(index + 1))) {
            optimise(problem, plan, known, &kept, &mut best);
            enough = needed(best.map_or(known, |best| best.score));
            optimised = true;
        }
        if hypotheses as f64 >= enough {
            break;
        }
    }
    Outcome { best, hypotheses }
}

/// The score a hypothesis must exceed to be kept.
fn bar<M>(kept: &[Candidate<M>], most: usize) -> f32 {
    kept.get(most - 1).map_or(0.0, |worst| worst.score)
}

/// Refines the hypotheses kept; what beats `known` and `best` becomes the best.
fn optimise<E: Estimator>(
    problem: &E,
    plan: &Plan<'_>,
    known: f32,
    kept: &[Candidate<Model<E>>],
    best: &mut Option<Candidate<Model<E>>>,
) {
    for kept in kept.chunks(LANES) {
        let mut models = E::Models::nothing();
        for (lane, candidate) in kept.iter().enumerate() {
            models.set(lane, candidate.model);
        }
        let mut consider = |models: &E::Models| {
            for (lane, &score) in problem.support(models).iter().enumerate() {
                if score > best.map_or(known, |best| best.score) {
                    *best = Some(Candidate { model: models.get(lane), score });
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
}

/// Whether any score is above the bar.
fn above(scores: &Lanes, bar: f32) -> bool {
    scores.iter().fold(0, |count, &score| count + u32::from(score > bar)) > 0
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

        fn support(&self, models: &Lanes) -> Lanes {
            self.score(models, 1.0)
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
        let best =
            estimate(&Location(vec![50.0, 9.6, 10.0, 10.5, -3.0, f32::NAN]), &PLAN, 0.0, 0.0).best.unwrap();
        assert!((best.model - (9.6 + 10.0 + 10.5) / 3.0).abs() < 1e-5, "{best:?}");
    }

    #[test]
    fn stops_when_enough_good_hypotheses_are_expected() {
        let data = Location((0..200).map(|i| if i % 2 == 0 { 5.0 } else { i as f32 * 100.0 }).collect());
        let all = estimate(&data, &PLAN, 0.0, 0.0);
        let some = estimate(&data, &Plan { enough: 10.0, ..PLAN }, 0.0, 0.0);
        assert_eq!(all.hypotheses, 200);
        assert_eq!(some.hypotheses, 64, "ten good ones among twenty, seen at the first milestone");
        assert_eq!(all.best, some.best);
    }

    #[test]
    fn earlier_hypothesis_wins_a_tie_and_nothing_gives_none() {
        let best = estimate(&Location(vec![7.0, 100.0]), &PLAN, 0.0, 0.0).best.unwrap();
        assert_eq!(best.model.to_bits(), 7.0_f32.to_bits());
        assert_eq!(estimate(&Location(vec![f32::NAN]), &PLAN, 0.0, 0.0).best, None);
        assert_eq!(estimate(&Location(vec![]), &PLAN, 0.0, 0.0), Outcome { best: None, hypotheses: 0 });
    }
}
