//! Databases of few rows, where everything beside the products counts.
//!
//! Where many of the rows are wanted, or there are very few, the canonical scores of all are computed ([`scored`]). Otherwise
//! the float32 scores of sampled rows give each query a threshold that about its best k should reach; rows whose bound lies
//! below it are dropped, the others get their canonical score. If k of them reach the threshold, every row that was dropped
//! is beaten by k others; otherwise the threshold was wrong and the query is compared with every row. With many queries a
//! thread takes some of them and all rows ([`many`]), with few some rows and all queries ([`few`]).

mod few;
mod many;
mod panel;
mod scored;

use std::cell::Cell;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Mutex, PoisonError};

use super::bounds::{Screened, growth};
use super::database::{Database, Matrix};
use super::element::Element;
use super::exact;
use super::sample::rank;
use super::screen::first_non_finite;
use super::select::{Candidate, Rank};
use super::sweep;
use super::topk::{TopK, checked};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_f16::{FEW, Kernels, PANEL, Tile};
use crate::kernels::dot_f64;
use crate::kernels::prefetch::prefetch;
use crate::threads::Team;
use panel::Hit;

/// More rows are searched in another way.
const MOST_ROWS: usize = 1 << 15;

/// So few bytes are searched here whether they are in memory or on disk.
const LEAST_BYTES: usize = 4 << 20;

/// Longer rows do not come in great numbers.
const MOST_COLUMNS: usize = 1 << 14;

/// Multiply-adds that are done sooner than another thread has woken up, and before anybody waits for an answer to Ctrl-C.
const BRIEF: usize = 1 << 22;
const SHORT: usize = 1 << 32;

/// Multiply-adds in float32 that take as long as one in float64.
const WIDE: usize = 4;

/// So many panels a thread are worth sharing out; fewer would not come out even.
const PANELS_EACH: usize = 8;

/// How many rows ahead the vectors are fetched.
const AHEAD: usize = 6;

/// How long a search takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Not worth a second thread.
    Brief,
    /// Over before anybody can interrupt it.
    Short,
    /// Longer.
    Long,
}

/// What [`topk`] would take; None if the database is not small, and searched in another way.
pub fn effort<T: Element>(queries: Matrix<'_, f32>, database: &Database<'_, T>, k: usize) -> Option<Effort> {
    let (rows, columns, count) = (database.searched(), database.columns(), queries.rows());
    let small =
        (1..=MOST_ROWS).contains(&rows) && (1..=MOST_COLUMNS).contains(&columns) && k > 0 && count > 0;
    let few = count <= FEW && T::halves(&[]).is_some() && !database.has_planes();
    if !small || sweep::pays_for(rows, k) && !few {
        return None;
    }
    let bytes = rows * columns * size_of::<T>();
    if bytes > LEAST_BYTES && database.is_backed() && database.is_cold() {
        return None;
    }
    let scored = if scored::pays(count, rows, columns, k) { rows } else { k + k / 4 };
    let work = count.saturating_mul(columns).saturating_mul(rows + WIDE * (scored + 2));
    Some(if work < BRIEF {
        Effort::Brief
    } else if work < SHORT {
        Effort::Short
    } else {
        Effort::Long
    })
}

/// [`super::topk()`] of a database that is small by [`effort`].
///
/// # Errors
/// As [`super::topk()`].
pub fn topk<T: Element>(
    queries: Matrix<'_, f32>,
    database: &Database<'_, T>,
    k: usize,
    team: &Team<'_>,
    control: &Control,
) -> Result<TopK> {
    let k = checked(queries, database.columns(), k)?.min(database.searched());
    let (kernels, wide) = (Kernels::active()?, dot_f64::Kernels::active()?);
    let small = Small { queries, database, k, kernels, wide, growth: growth(database.columns()) };
    small.search(team, control).map_err(|error| match error {
        Error::NonFinite { .. } => {
            small.first_query().or_else(|| first_non_finite(database)).unwrap_or(error)
        }
        other => other,
    })
}

/// What is searched.
#[derive(Debug)]
struct Small<'a, T> {
    queries: Matrix<'a, f32>,
    database: &'a Database<'a, T>,
    k: usize,
    kernels: &'static Kernels,
    wide: &'static dot_f64::Kernels,
    growth: f64,
}

/// Where the results of some queries go.
type Place<'o> = Mutex<(&'o mut [f32], &'o mut [i64])>;

/// What a thread needs. It is kept from search to search: to get fresh memory takes as long as a small search.
#[derive(Debug, Default)]
struct Scratch {
    scaled: Vec<f32>,
    widened: Aligned,
    norms: Vec<f32>,
    tile: Tile,
    keys: Vec<f32>,
    few: Vec<[f32; FEW]>,
    squares: Vec<f32>,
    exact: Vec<f64>,
    candidates: Vec<Candidate>,
    ranked: Vec<u64>,
}

thread_local! {
    static KEPT: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// The scratch space of a thread, which goes back to it.
#[derive(Debug)]
struct Own(Option<Box<Scratch>>);

impl Own {
    fn take() -> Self {
        Self(Some(KEPT.take().unwrap_or_default()))
    }
}

impl Deref for Own {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        self.0.as_ref().expect("taken when it is dropped")
    }
}

impl DerefMut for Own {
    fn deref_mut(&mut self) -> &mut Scratch {
        self.0.as_mut().expect("taken when it is dropped")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        KEPT.set(self.0.take());
    }
}

impl<T: Element> Small<'_, T> {
    fn search(&self, team: &Team<'_>, control: &Control) -> Result<TopK> {
        let (count, k, rows) = (self.queries.rows(), self.k, self.database.searched());
        let (mut scores, mut indices) = (vec![0.0; count * k], vec![0; count * k]);
        if scored::pays(count, rows, self.database.columns(), k) {
            self.score(team, &mut scores, &mut indices, control)?;
        } else if count > FEW
            && (team.threads() == 1 || count.div_ceil(PANEL) >= PANELS_EACH * team.threads())
        {
            self.search_many(team, &mut scores, &mut indices, control)?;
        } else {
            self.search_few(team, &mut scores, &mut indices, control)?;
        }
        control.advance(self.database.rows() as u64)?;
        Ok(TopK { k, scores, indices })
    }

    /// Calls `visit` with each query and the places of its results.
    fn each(
        &self,
        queries: Range<usize>,
        place: &Place<'_>,
        mut visit: impl FnMut(usize, &mut [f32], &mut [i64]) -> Result<()>,
    ) -> Result<()> {
        let (scores, indices) = &mut *locked(place);
        let places = scores.chunks_exact_mut(self.k).zip(indices.chunks_exact_mut(self.k));
        queries.zip(places).try_for_each(|(query, (scores, indices))| visit(query, scores, indices))
    }

    /// The error for the first query that is not finite.
    fn first_query(&self) -> Option<Error> {
        (0..self.queries.rows()).find_map(|query| self.finite(query).err())
    }

    /// The rank in a sample that is trusted; None if it says too little. The k-th best of a sample is sure to be reached.
    fn needed(&self, sampled: usize) -> Option<usize> {
        let needed = rank(self.k, sampled, self.database.searched(), 2.5, 2.0).min(self.k);
        (needed <= sampled / 2).then_some(needed)
    }

    /// Writes the best of what came through for a query, of which k rows are trusted to reach `guess`.
    #[expect(clippy::too_many_arguments, reason = "what is known of a query, and where its results go")]
    fn settle(
        &self,
        query: usize,
        screened: &Screened,
        guess: f32,
        hits: &[Hit],
        scratch: &mut Scratch,
        scores: &mut [f32],
        indices: &mut [i64],
    ) -> Result<()> {
        let Scratch { exact, candidates, ranked, .. } = scratch;
        exact.resize(self.queries.columns(), 0.0);
        let exact = exact::Query::widened(self.wide, self.queries.row(query), exact);
        candidates.clear();
        candidates.extend(hits.iter().map(|hit| {
            let (lower, upper) = screened.bounds(hit.score, hit.norm);
            Candidate { lower, upper, row: hit.row as usize }
        }));
        if candidates.len() > self.k + self.k / 8 {
            let order = |a: &Candidate, b: &Candidate| b.lower.total_cmp(&a.lower);
            let least = candidates.select_nth_unstable_by(self.k - 1, order).1.lower;
            candidates.retain(|candidate| candidate.upper >= least);
        }
        ranked.clear();
        for (at, candidate) in candidates.iter().enumerate() {
            if let Some(soon) = candidates.get(at + AHEAD) {
                prefetch(self.database.row(soon.row));
            }
            let score = exact::score(self.kernels, self.database.row(candidate.row), exact);
            ranked.push(packed(score, candidate.row));
        }
        let trusted = packed(guess, u32::MAX as usize);
        if ranked.iter().filter(|&&entry| entry <= trusted).count() < self.k {
            return self.score_all(query, scratch, scores, indices);
        }
        write(ranked, scores, indices);
        Ok(())
    }
}

/// Where the results of each group of queries go, which take `size` places.
fn places<'o>(scores: &'o mut [f32], indices: &'o mut [i64], size: usize) -> Vec<Place<'o>> {
    scores.chunks_mut(size).zip(indices.chunks_mut(size)).map(Mutex::new).collect()
}

fn locked<V>(value: &Mutex<V>) -> std::sync::MutexGuard<'_, V> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn inner<V>(value: Mutex<V>) -> V {
    value.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A score and a row in the order of the results: better ones are smaller.
fn packed(score: f32, row: usize) -> u64 {
    u64::from(Rank::of(score).0) << 32 | row as u64
}

/// Writes the best rows, as many as there are places.
fn write(ranked: &mut [u64], scores: &mut [f32], indices: &mut [i64]) {
    let k = scores.len();
    if k == 1 {
        ranked[0] = ranked.iter().copied().fold(u64::MAX, u64::min);
    } else if k < ranked.len() {
        ranked.select_nth_unstable(k - 1);
    }
    let best = &mut ranked[..k];
    best.sort_unstable();
    for ((score, index), &entry) in scores.iter_mut().zip(indices).zip(&*best) {
        (*score, *index) = (Rank((entry >> 32) as u32).score(), i64::from(entry as u32));
    }
}
