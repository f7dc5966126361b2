//! Exact top-k by inner product: screen, keep what could be among the best, settle canonically.

use rayon::prelude::*;

use super::database::{Chunks, Database, Element, Matrix};
use super::int8::Planes;
use super::schedule::{Scan, run};
use super::screen::{Lane, Panels, Problem, Rows};
use super::select::{Candidate, Candidates};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::prefetch::prefetch;

/// How many candidates ahead the rows are fetched.
const AHEAD: usize = 4;

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
}

impl Screen {
    /// The screen called "auto", "float32" or "int8".
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "float32" => Ok(Self::Float32),
            "int8" => Ok(Self::Int8),
            _ => Err(Error::parameter("screen", "auto, float32 or int8", format!("{name:?}"))),
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
    if k == 0 {
        return Err(Error::parameter("k", "at least 1", k));
    }
    if queries.columns() != database.columns() {
        let expected = format!("{} columns, as the database has", database.columns());
        return Err(Error::shape("queries", expected, format!("{} columns", queries.columns())));
    }
    let k = k.min(database.searched());
    let problem = Problem::new(queries, database, k)?;
    if k == 0 || queries.rows() == 0 {
        return Ok(TopK { k, ..TopK::default() });
    }
    let planes = match screen {
        Screen::Auto => Planes::pays(&problem).then(|| Planes::new(&problem, true)).transpose()?.flatten(),
        Screen::Float32 => None,
        Screen::Int8 => Planes::new(&problem, false)?,
    };
    let found = match planes {
        Some(mut planes) => in_int8(&problem, &mut planes, control),
        None => in_float32(&problem, true, control),
    };
    let candidates = found.map_err(|error| match error {
        Error::NonFinite { .. } => problem.first_non_finite().unwrap_or(error),
        other => other,
    })?;
    settle(&problem, candidates, control)
}

/// The candidates of each query by the float32 screen; with `counted`, rows are counted on `control`.
fn in_float32<T: Element>(
    problem: &Problem<'_, T>,
    counted: bool,
    control: &Control,
) -> Result<Vec<Candidates>> {
    if let Some(rows) = Rows::new(problem) {
        search(&rows, &problem.database.chunks(rows.chunk()), problem, counted, control)
    } else {
        let panels = Panels::new(problem);
        search(&panels, &problem.database.chunks(panels.chunk()), problem, counted, control)
    }
}

/// The candidates of each query by the int8 screen, and by the float32 screen where that was not enough.
fn in_int8<T: Element>(
    problem: &Problem<'_, T>,
    planes: &mut Planes<'_, T>,
    control: &Control,
) -> Result<Vec<Candidates>> {
    let mut found = planes.search(control)?;
    let missing: Vec<usize> = (0..found.len()).filter(|&query| found[query].is_none()).collect();
    if !missing.is_empty() {
        let again = in_float32(&problem.subset(&missing), false, control)?;
        for (&query, candidates) in missing.iter().zip(again) {
            found[query] = Some(candidates);
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
    let mut merged: Vec<Candidates> = problem.screened.iter().map(|_| Candidates::new(problem.k)).collect();
    for lane in run(scan, chunks, counted, control)?.into_iter().flatten() {
        for (query, candidates) in lane.queries.zip(lane.candidates) {
            merged[query].merge(candidates);
        }
    }
    Ok(merged)
}

/// Computes the canonical scores of the candidates and keeps the best.
fn settle<T: Element>(
    problem: &Problem<'_, T>,
    candidates: Vec<Candidates>,
    control: &Control,
) -> Result<TopK> {
    let k = problem.k;
    let best: Vec<Vec<Candidate>> = candidates
        .into_par_iter()
        .enumerate()
        .with_max_len(1)
        .map(|(query, candidates)| {
            let mut left = candidates.finish();
            for at in 0..left.len() {
                if at % 1024 == 0 {
                    control.advance(0)?;
                }
                // The rows lie far apart: what is needed soon is asked for now.
                if let Some(soon) = left.get(at + AHEAD) {
                    prefetch(problem.database.row(soon.row));
                }
                left[at].settle(|row| problem.score(query, row));
            }
            left.sort_unstable_by(Candidate::order);
            left.truncate(k);
            Ok(left)
        })
        .collect::<Result<_>>()?;
    Ok(TopK {
        k,
        scores: best.iter().flatten().map(|entry| entry.lower).collect(),
        indices: best.iter().flatten().map(|entry| entry.row as i64).collect(),
    })
}
