//! Exact top-k by inner product: screen, keep what could be among the best, settle canonically.

use rayon::prelude::*;

use super::database::{Chunks, Database, Element, Matrix};
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
    let found = if let Some(rows) = Rows::new(&problem) {
        search(&rows, &database.chunks(rows.chunk()), queries.rows(), k, control)
    } else {
        let panels = Panels::new(&problem);
        search(&panels, &database.chunks(panels.chunk()), queries.rows(), k, control)
    };
    let candidates = found.map_err(|error| match error {
        Error::NonFinite { .. } => problem.first_non_finite().unwrap_or(error),
        other => other,
    })?;
    settle(&problem, candidates, control)
}

/// The candidates of each query after a pass over the database.
fn search<S: Scan<Lane = Lane>>(
    scan: &S,
    chunks: &Chunks,
    queries: usize,
    k: usize,
    control: &Control,
) -> Result<Vec<Candidates>> {
    let mut merged: Vec<Candidates> = (0..queries).map(|_| Candidates::new(k)).collect();
    for lane in run(scan, chunks, control)?.into_iter().flatten() {
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
