//! The loop: every hypothesis in order, then local optimisation of the best few.
//!
//! Optimising the best few afterwards finds more than optimising at each new best (LO-RANSAC), because the best
//! minimal model is often not the one that grows most. Nothing is random here: a problem that samples its
//! hypotheses does so with its own seed.

use super::estimator::Estimator;

/// Hypotheses scored at a time.
const BATCH: usize = 64;

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
}

/// A model and its score at radius 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate<M> {
    /// The model.
    pub model: M,
    /// Its score.
    pub score: f64,
}

/// Tries all hypotheses, optimises the best, and returns the best model seen at radius 1; None if no hypothesis
/// was believable or nothing agrees with any. Among equal scores the earlier hypothesis wins.
pub fn estimate<E: Estimator>(problem: &E, plan: &Plan<'_>) -> Option<Candidate<E::Model>> {
    let mut kept: Vec<Candidate<E::Model>> = Vec::with_capacity(plan.keep + 1);
    let mut batch: Vec<E::Model> = Vec::with_capacity(BATCH);
    let mut scores = [0.0; BATCH];
    let mut hypotheses = (0..problem.hypotheses()).filter_map(|index| problem.hypothesis(index));
    loop {
        batch.clear();
        batch.extend(hypotheses.by_ref().take(BATCH));
        if batch.is_empty() {
            break;
        }
        problem.score(&batch, plan.hypothesis_radius, &mut scores);
        for (&model, &score) in batch.iter().zip(&scores) {
            if kept.len() < plan.keep || kept.last().is_some_and(|worst| score > worst.score) {
                let place = kept.partition_point(|other| other.score >= score);
                kept.insert(place, Candidate { model, score });
                kept.truncate(plan.keep);
            }
        }
    }
    // Every model on the way to the threshold is a candidate; they are scored together at the end.
    let mut refined: Vec<E::Model> = Vec::with_capacity(plan.keep * (plan.schedule.len() + 1));
    for candidate in kept {
        let mut model = candidate.model;
        refined.push(model);
        for &radius in plan.schedule {
            let Some(next) = problem.refine(&model, radius) else { break };
            model = next;
            if radius <= FINAL_RADIUS {
                refined.push(model);
            }
        }
    }
    let mut scores = vec![0.0; refined.len()];
    problem.score(&refined, 1.0, &mut scores);
    let mut best: Option<Candidate<E::Model>> = None;
    for (&model, &score) in refined.iter().zip(&scores) {
        if score > best.map_or(0.0, |best| best.score) {
            best = Some(Candidate { model, score });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A one-dimensional location problem: data on a line, a model is a position.
    struct Location(Vec<f64>);

    impl Estimator for Location {
        type Model = f64;

        fn hypotheses(&self) -> usize {
            self.0.len()
        }

        fn hypothesis(&self, index: usize) -> Option<f64> {
            self.0[index].is_finite().then(|| self.0[index])
        }

        fn score(&self, models: &[f64], radius: f64, scores: &mut [f64]) {
            for (model, score) in models.iter().zip(scores) {
                *score = self.0.iter().map(|x| (1.0 - ((x - model) / radius).powi(2)).max(0.0)).sum();
            }
        }

        fn refine(&self, model: &f64, radius: f64) -> Option<f64> {
            let near: Vec<f64> = self.0.iter().copied().filter(|x| (x - model).abs() <= radius).collect();
            (!near.is_empty()).then(|| near.iter().sum::<f64>() / near.len() as f64)
        }
    }

    const PLAN: Plan<'_> = Plan { keep: 2, hypothesis_radius: 2.0, schedule: &[2.0, 1.0, 1.0] };

    #[test]
    fn finds_and_refines_the_largest_cluster() {
        let best = estimate(&Location(vec![50.0, 9.6, 10.0, 10.5, -3.0, f64::NAN]), &PLAN).unwrap();
        assert!((best.model - (9.6 + 10.0 + 10.5) / 3.0).abs() < 1e-12, "{best:?}");
    }

    #[test]
    fn earlier_hypothesis_wins_a_tie_and_nothing_gives_none() {
        assert!(
            estimate(&Location(vec![7.0, 100.0]), &PLAN)
                .is_some_and(|best| best.model.to_bits() == 7.0_f64.to_bits())
        );
        assert_eq!(estimate(&Location(vec![f64::NAN]), &PLAN), None);
        assert_eq!(estimate(&Location(vec![]), &PLAN), None);
    }
}
