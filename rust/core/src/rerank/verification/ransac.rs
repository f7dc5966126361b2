//! The loop: hypotheses in order until enough are tried, then local optimisation of the best few.
//!
//! Optimising the best few afterwards finds more than optimising at each new best (LO-RANSAC), because the best
//! minimal model is often not the one that grows most. Nothing is random here: a problem that samples its
//! hypotheses does so with its own seed.

use super::estimator::{Batch, Estimator, Model};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::consensus::LANES;

/// Refinements at larger radii are steps on the way, not results.
pub const FINAL_RADIUS: f64 = 1.2;

/// Batches after which the best hypotheses are optimised to see whether enough are tried.
const MILESTONES: [usize; 3] = [4, 16, 64];

/// Hypotheses kept at most.
pub const MOST: usize = LANES;

/// Batches that are searched between two looks at the control.
const SEARCHED: usize = 1 << 14;

/// Batches after which only the best hypothesis is refined, for problems where most of the data is good.
const GLANCE: usize = 2;

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
    /// The same after a first glance, with the radii of its refinement; none without a glance.
    pub glance: Option<(f64, &'a [f64])>,
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

/// The hypotheses of the best scores, in no order.
#[derive(Debug, Clone)]
pub struct Kept<M> {
    most: usize,
    /// Infinite where there is no model.
    scores: [f32; MOST],
    models: Vec<M>,
    /// The place of the worst.
    worst: usize,
    changed: bool,
}

impl<M: Copy> Kept<M> {
    /// Room for `most`, from 1 to [`MOST`].
    pub fn new(most: usize) -> Self {
        assert!((1..=MOST).contains(&most), "from 1 to {MOST}");
        let models = Vec::with_capacity(most);
        Self { most, scores: [f32::INFINITY; MOST], models, worst: 0, changed: false }
    }

    /// The score a hypothesis must exceed to be kept.
    pub fn bar(&self) -> f32 {
        if self.models.len() < self.most { 0.0 } else { self.scores[self.worst] }
    }

    /// Keeps a hypothesis whose score is above the bar, in place of the worst if there is no room.
    #[inline]
    pub fn offer(&mut self, candidate: Candidate<M>) {
        let Candidate { model, score } = candidate;
        let place = if self.models.len() < self.most { self.models.len() } else { self.worst };
        // Lane by lane: whole registers read just after one value was written would wait for it.
        for (l, kept) in self.scores.iter_mut().enumerate() {
            *kept = if l == place { score } else { *kept };
        }
        if place == self.models.len() {
            self.models.push(model);
        } else {
            self.models[place] = model;
        }
        self.changed = true;
        if self.models.len() == self.most {
            // Of equal scores the latest in place goes first.
            let lower = |a: f32, b: f32| if a < b { a } else { b };
            let mut lanes = self.scores;
            for half in [8, 4, 2, 1] {
                for l in 0..half {
                    lanes[l] = lower(lanes[l], lanes[l + half]);
                }
            }
            self.worst = self.scores.iter().rposition(|&score| score <= lanes[0]).unwrap_or(0);
        }
    }

    /// The best hypothesis.
    fn best(&self) -> Option<Candidate<M>> {
        let better = |best: Option<Candidate<M>>, (&score, &model): (&f32, &M)| {
            if best.is_none_or(|best| score > best.score) { Some(Candidate { model, score }) } else { best }
        };
        self.scores.iter().zip(&self.models).fold(None, better)
    }
}

/// Tries hypotheses, optimises the best, and returns the best model.
///
/// The best are optimised at the end and at a few [`MILESTONES`] before it, because only an optimised model tells
/// how much of the data is good, and so how many hypotheses are enough. `known` is the support of a model found
/// otherwise: it tells the same, and is to be beaten. Models of a support below `least` are of no interest; it is
/// asked for where a glance does not find the model.
pub fn estimate<E: Estimator>(
    problem: &E,
    plan: &Plan<'_>,
    known: f32,
    least: impl FnOnce() -> Result<f32>,
    control: &Control,
) -> Result<Outcome<Model<E>>> {
    let mut kept = Kept::new(plan.keep);
    let mut best: Option<Candidate<Model<E>>> = None;
    let needed = |enough: f64, support: f32| enough / problem.chance_of_good(f64::from(support));
    let batches = problem.batches();
    let (mut tried, mut hypotheses) = (0, 0);
    if let Some((enough, radii)) = plan.glance {
        tried = GLANCE.min(batches);
        hypotheses = problem.hypotheses(tried);
        problem.search(0..tried, plan.hypothesis_radius, &mut kept);
        if let Some(first) = kept.best() {
            let found = problem.polish(first.model, radii);
            if found.score > known && hypotheses as f64 >= needed(enough, found.score) {
                return Ok(Outcome { best: Some(found), hypotheses });
            }
        }
    }
    let least = least()?;
    let mut enough = needed(plan.enough, known.max(least));
    for stop in MILESTONES.into_iter().chain([batches]) {
        // The fewest batches with enough hypotheses, up to the stop.
        let (mut low, mut high) = (tried, stop.min(batches));
        while low < high {
            let middle = usize::midpoint(low, high);
            if problem.hypotheses(middle) as f64 >= enough { high = middle } else { low = middle + 1 }
        }
        if high > tried {
            for start in (tried..high).step_by(SEARCHED) {
                control.check()?;
                problem.search(start..high.min(start + SEARCHED), plan.hypothesis_radius, &mut kept);
            }
            (tried, hypotheses) = (high, problem.hypotheses(high));
        }
        let last = hypotheses as f64 >= enough || tried == batches;
        // A milestone near the end would save less than it costs, and so would one that finds nothing: hypotheses that
        // score less than the support their optimised model has to exceed are looked at once, at the end.
        let to_exceed = best.map_or(known, |best| best.score).max(least);
        let promising = || kept.best().is_some_and(|best| best.score >= to_exceed);
        if kept.changed && (last || 2.0 * hypotheses as f64 <= enough && promising()) {
            optimise(problem, plan, known, &kept.models, &mut best, control)?;
            kept.changed = false;
            enough = needed(plan.enough, best.map_or(known, |best| best.score).max(least));
        }
        if last || hypotheses as f64 >= enough {
            break;
        }
    }
    Ok(Outcome { best, hypotheses })
}

/// Refines the hypotheses kept; what beats `known` and `best` becomes the best.
fn optimise<E: Estimator>(
    problem: &E,
    plan: &Plan<'_>,
    known: f32,
    kept: &[Model<E>],
    best: &mut Option<Candidate<Model<E>>>,
    control: &Control,
) -> Result<()> {
    for kept in kept.chunks(LANES) {
        let mut models = E::Models::nothing();
        for (lane, &model) in kept.iter().enumerate() {
            models.set(lane, model);
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
            control.check()?;
            problem.refine(&mut models, radius);
            if radius <= FINAL_RADIUS {
                consider(&models);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::kernels::consensus::Lanes;

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

        fn hypotheses(&self, batches: usize) -> usize {
            self.0.len().min(batches * LANES)
        }

        fn search(&self, batches: Range<usize>, radius: f64, kept: &mut Kept<f32>) {
            for batch in batches {
                let mut models = Lanes::nothing();
                let part = &self.0[batch * LANES..self.0.len().min((batch + 1) * LANES)];
                models[..part.len()].copy_from_slice(part);
                for (model, score) in models.into_iter().zip(self.score(&models, radius)) {
                    if score > kept.bar() {
                        kept.offer(Candidate { model, score });
                    }
                }
            }
        }

        fn chance_of_good(&self, score: f64) -> f64 {
            score / self.0.len() as f64
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

        fn polish(&self, model: f32, radii: &[f64]) -> Candidate<f32> {
            let mut models = [model; LANES];
            for &radius in radii {
                self.refine(&mut models, radius);
            }
            Candidate { model: models[0], score: self.support(&models)[0] }
        }
    }

    impl Location {
        fn score(&self, models: &Lanes, radius: f64) -> Lanes {
            models.map(|model| {
                let share = |x: &f32| (1.0 - ((x - model) / radius as f32).powi(2)).max(0.0);
                self.0.iter().map(share).filter(|share| !share.is_nan()).sum()
            })
        }
    }

    const PLAN: Plan<'_> = Plan {
        keep: 2,
        hypothesis_radius: 2.0,
        schedule: &[2.0, 1.0, 1.0],
        enough: f64::INFINITY,
        glance: None,
    };

    #[test]
    fn the_best_are_kept_in_place_of_the_worst() {
        let mut kept = Kept::new(3);
        for (model, score) in [(0, 5.0), (1, 2.0), (2, 9.0)] {
            assert!(kept.bar() <= 0.0, "there is room");
            kept.offer(Candidate { model, score });
        }
        assert_eq!((kept.bar(), kept.best().map(|best| best.model)), (2.0, Some(2)));
        kept.offer(Candidate { model: 3, score: 9.0 });
        assert_eq!((kept.bar(), kept.best().map(|best| best.model)), (5.0, Some(3)), "where the worst was");
        assert_eq!(Kept::<u8>::new(1).best(), None);
    }

    fn estimate(problem: &Location, plan: &Plan<'_>) -> Outcome<f32> {
        super::estimate(problem, plan, 0.0, || Ok(0.0), &Control::new()).unwrap()
    }

    #[test]
    fn finds_and_refines_the_largest_cluster() {
        let best = estimate(&Location(vec![50.0, 9.6, 10.0, 10.5, -3.0, f32::NAN]), &PLAN).best.unwrap();
        assert!((best.model - (9.6 + 10.0 + 10.5) / 3.0).abs() < 1e-5, "{best:?}");
    }

    #[test]
    fn stops_when_enough_good_hypotheses_are_expected() {
        let data = Location((0..200).map(|i| if i % 2 == 0 { 5.0 } else { i as f32 * 100.0 }).collect());
        let all = estimate(&data, &PLAN);
        let some = estimate(&data, &Plan { enough: 10.0, ..PLAN });
        assert_eq!(all.hypotheses, 200);
        assert_eq!(some.hypotheses, 64, "ten good ones among twenty, seen at the first milestone");
        assert_eq!(all.best, some.best);
        let glanced = estimate(&data, &Plan { enough: 10.0, glance: Some((5.0, &[1.0])), ..PLAN });
        assert_eq!((glanced.hypotheses, glanced.best), (32, all.best), "five expected among the first");
    }

    #[test]
    fn earlier_hypothesis_wins_a_tie_and_nothing_gives_none() {
        let best = estimate(&Location(vec![7.0, 100.0]), &PLAN).best.unwrap();
        assert_eq!(best.model.to_bits(), 7.0_f32.to_bits());
        assert_eq!(estimate(&Location(vec![f32::NAN]), &PLAN).best, None);
        assert_eq!(estimate(&Location(vec![]), &PLAN), Outcome { best: None, hypotheses: 0 });
    }
}
