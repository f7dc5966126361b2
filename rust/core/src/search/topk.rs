//! Exact top-k by inner product: screen, keep what could be among the best, settle canonically.

use rayon::prelude::*;

use super::bfloat16::Bfloat16;
use super::codec::Codec;
use super::database::{Chunks, Database, Matrix};
use super::element::Element;
use super::int8::Int8;
use super::sample::Guess;
use super::schedule::{Scan, run};
use super::screen::{Lane, Panels, Problem, Rows};
use super::select::{Candidate, Candidates, Rank, Ranked};
use super::small;
use super::sweep::{self, Sweep};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::prefetch::prefetch;
use crate::level::{self, Level};
use crate::sorting::sort_by;
use crate::threads::Team;

/// From so many queries on, a database without planes is quantised to int8 on the way,
const INT8_QUERIES: usize = 128;
/// where there is no bfloat16, already from
const INT8_QUERIES_WITHOUT_BFLOAT16: usize = 24;
/// and where there is, it is rounded to that from so many on.
const BFLOAT16_QUERIES: usize = 9;

/// The part of the rows that comes through at most, if codes are to be faster than the float32 screen,
const MOST_PASSING: f32 = 0.1;
/// and the part of the queries for which that must be so, if the others are to be searched in float32 beside them.
const LEAST_HOPEFUL: usize = 8;

/// How many candidates ahead the rows are fetched.
const AHEAD: usize = 4;

/// Terms of canonical scores, each a few nanoseconds at worst, after which somebody may want to stop.
const UNCHECKED_TERMS: usize = 1 << 22;

/// The best rows of each query, best first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopK {
    /// Results per query: k, or the number of searched rows if that is smaller.
    pub k: usize,
    /// Canonical scores, `k` a query.
    pub scores: Vec<f32>,
    /// Database rows, `k` a query.
    pub indices: Vec<i64>,
}

impl TopK {
    pub(super) fn new(k: usize, best: &[Ranked]) -> Self {
        Self {
            k,
            scores: best.iter().flatten().map(|entry| entry.0.score()).collect(),
            indices: best.iter().flatten().map(|entry| entry.1 as i64).collect(),
        }
    }
}

/// How rows are told apart before their canonical scores are computed. The answer does not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Screen {
    /// By the sizes of the problem.
    #[default]
    Auto,
    /// Always in float32.
    Float32,
    /// In int8, whatever the sizes, and without giving up.
    Int8,
    /// In bfloat16, whatever the sizes, and without giving up.
    Bfloat16,
}

impl Screen {
    /// The screen called "auto", "float32", "bfloat16" or "int8".
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "float32" => Ok(Self::Float32),
            "int8" => Ok(Self::Int8),
            "bfloat16" => Ok(Self::Bfloat16),
            _ => Err(Error::parameter("screen", "auto, float32, bfloat16 or int8", format!("{name:?}"))),
        }
    }
}

impl Screen {
    /// What to use; never `Auto`.
    fn chosen<T: Element>(self, problem: &Problem<'_, T>) -> Self {
        if self != Self::Auto {
            return self;
        }
        let queries = problem.screened.len();
        let fast = level::active().is_ok_and(|level| level != Level::Scalar);
        if !fast || !sweep::pays(problem) {
            Self::Float32
        } else if problem.database.has_planes() && Int8::reads_planes_of(problem) || queries >= INT8_QUERIES {
            Self::Int8
        } else if queries >= BFLOAT16_QUERIES && Bfloat16::is_fast() {
            Self::Bfloat16
        } else if queries >= INT8_QUERIES_WITHOUT_BFLOAT16 && !Bfloat16::is_fast() {
            Self::Int8
        } else {
            Self::Float32
        }
    }
}

/// The `k` rows with the largest inner product for each query, by (canonical score descending, row ascending).
///
/// The canonical score is the exact real inner product rounded to float64 and then to float32 (`exact`); it
/// may be infinite. The result does not depend on the level, the number of threads or the shards. Rows done are
/// counted on `control`. Memory: O(queries (d + k)), times the number of threads if there are few queries.
///
/// # Errors
/// [`Error::Parameter`] for `k = 0`, [`Error::Shape`] if the columns differ, [`Error::NonFinite`] for the first
/// query, or else the first searched row, that is not finite, [`Error::Interrupted`].
pub fn topk<T: Element>(
    queries: Matrix<'_, f32>,
    database: &Database<'_, T>,
    k: usize,
    control: &Control,
) -> Result<TopK> {
    topk_with(queries, database, k, Screen::Auto, control)
}

/// [`topk`] with a choice of the screen, for tests and benchmarks.
pub fn topk_with<T: Element>(
    queries: Matrix<'_, f32>,
    database: &Database<'_, T>,
    k: usize,
    screen: Screen,
    control: &Control,
) -> Result<TopK> {
    if screen == Screen::Auto && small::effort(queries, database, k).is_some() {
        return small::topk(queries, database, k, &Team::Current, control);
    }
    let k = checked(queries, database.columns(), k)?.min(database.searched());
    let best = ranked(queries, database, k, Vec::new(), screen, control)?;
    Ok(TopK::new(k, &best))
}

/// k, if it and the queries fit a database of `columns` columns.
pub(super) fn checked(queries: Matrix<'_, f32>, columns: usize, k: usize) -> Result<usize> {
    if k == 0 {
        return Err(Error::parameter("k", "at least 1", k));
    }
    if queries.columns() != columns {
        let expected = format!("{columns} columns, as the database has");
        return Err(Error::shape("queries", expected, format!("{} columns", queries.columns())));
    }
    Ok(k)
}

/// The best `k` rows of each query; those behind its floor, if there are `floors`, may be left out.
pub(super) fn ranked<T: Element>(
    queries: Matrix<'_, f32>,
    database: &Database<'_, T>,
    k: usize,
    floors: Vec<Rank>,
    screen: Screen,
    control: &Control,
) -> Result<Vec<Ranked>> {
    let mut problem = Problem::new(queries, database, k, control)?;
    if !floors.is_empty() {
        problem = problem.above(floors);
    }
    if k == 0 || queries.rows() == 0 {
        return Ok(vec![Ranked::new(); queries.rows()]);
    }
    let (found, patient) = (screen.chosen(&problem), screen != Screen::Auto);
    let found = match found {
        Screen::Int8 => coarsely(&problem, Int8::new, !patient, control),
        Screen::Bfloat16 => coarsely(&problem, Bfloat16::new, !patient, control),
        Screen::Float32 | Screen::Auto => in_float32(&problem, true, control),
    };
    found.map_err(|error| match error {
        Error::NonFinite { .. } => problem.first_non_finite().unwrap_or(error),
        other => other,
    })
}

/// The best rows of each query by the float32 screen; with `counted`, rows are counted on `control`.
fn in_float32<T: Element>(problem: &Problem<'_, T>, counted: bool, control: &Control) -> Result<Vec<Ranked>> {
    let candidates = if let Some(rows) = Rows::new(problem) {
        search(&rows, &problem.database.chunks(rows.chunk()), problem, counted, control)
    } else {
        let panels = Panels::new(problem, control)?;
        search(&panels, &problem.database.chunks(panels.chunk()), problem, counted, control)
    };
    settle(problem, candidates?, control)
}

/// The best rows of each query by a sweep with coarse codes, and by the float32 screen where that was given up or there are
/// no codes.
fn coarsely<T: Element, C: Codec<T>>(
    problem: &Problem<'_, T>,
    codec: impl Fn(&Problem<'_, T>) -> Result<Option<C>>,
    may_give_up: bool,
    control: &Control,
) -> Result<Vec<Ranked>> {
    let Some(all) = codec(problem)? else { return in_float32(problem, true, control) };
    let sweep = Sweep::new(problem, &all, may_give_up);
    let guesses = sweep.guesses(control)?;
    let hopeful = |query: &usize| !may_give_up || guesses[*query].passing <= MOST_PASSING;
    let hopeful: Vec<usize> = (0..guesses.len()).filter(hopeful).collect();
    let mut found = if hopeful.len() == guesses.len() {
        sweep.search(&guesses, control)?
    } else if hopeful.len() < guesses.len() / LEAST_HOPEFUL {
        return in_float32(problem, true, control);
    } else {
        // Panels of them alone: in a mixed one they would all be multiplied.
        let some = problem.subset(&hopeful);
        let Some(codec) = codec(&some)? else { return in_float32(problem, true, control) };
        let guesses: Vec<Guess> = hopeful.iter().map(|&query| guesses[query]).collect();
        let mut found = vec![None; problem.screened.len()];
        let searched = Sweep::new(&some, &codec, true).search(&guesses, control)?;
        hopeful.iter().zip(searched).for_each(|(&query, best)| found[query] = best);
        found
    };
    // Every row has a place among the best k as long as there are fewer; only damaged planes lose one then.
    let complete =
        |query: usize, found: &Ranked| found.len() >= problem.k || problem.floor(query) != Rank::LAST;
    let given_up: Vec<usize> = (0..found.len())
        .filter(|&query| found[query].as_ref().is_none_or(|found| !complete(query, found)))
        .collect();
    if !given_up.is_empty() {
        let again = in_float32(&problem.subset(&given_up), false, control)?;
        for (&query, best) in given_up.iter().zip(again) {
            found[query] = Some(best);
        }
    }
    Ok(found.into_iter().flatten().collect())
}

/// The candidates of each query after a pass over the database.
fn search<T: Element, S: Scan<Lane = Lane>>(
    scan: &S,
    chunks: &Chunks,
    problem: &Problem<'_, T>,
    counted: bool,
    control: &Control,
) -> Result<Vec<Candidates>> {
    let mut merged: Vec<Candidates> =
        (0..problem.screened.len()).map(|query| Candidates::new(problem.k, problem.floor(query))).collect();
    for lane in run(scan, chunks, counted, control)?.into_iter().flatten() {
        for (query, candidates) in lane.queries.zip(lane.candidates) {
            merged[query].merge(candidates);
        }
    }
    Ok(merged)
}

/// How many canonical scores are computed between two looks at whether to stop.
fn between_checks(columns: usize) -> usize {
    (UNCHECKED_TERMS / columns.max(1)).clamp(1, 1024)
}

/// Computes the canonical scores of the candidates and keeps the best.
fn settle<T: Element>(
    problem: &Problem<'_, T>,
    candidates: Vec<Candidates>,
    control: &Control,
) -> Result<Vec<Ranked>> {
    let settled = |(query, candidates): (usize, Candidates)| {
        let mut left = candidates.finish();
        let together = between_checks(problem.database.columns());
        problem.ask_for(left.iter().map(|entry| entry.row), false);
        for at in 0..left.len() {
            if at % together == 0 {
                control.check()?;
            }
            // The rows lie far apart: what is needed soon is asked for now.
            if let Some(soon) = left.get(at + AHEAD) {
                prefetch(problem.database.row(soon.row));
            }
            left[at].settle(|row| problem.score(query, row));
        }
        sort_by(&mut left, Candidate::order, control)?;
        left.truncate(problem.k);
        Ok(left.iter().map(|entry| (Rank::of(entry.lower), entry.row)).collect())
    };
    problem.here_and_there(|| candidates.into_par_iter().enumerate().with_max_len(1).map(settled).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_rows_are_looked_at_one_by_one() {
        assert_eq!([0, 128, 4096, 1 << 20, 20_000_000].map(between_checks), [1024, 1024, 1024, 4, 1]);
    }
}
