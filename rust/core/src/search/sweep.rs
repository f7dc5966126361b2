//! A pass over a database with coarse codes: what the bound of a codec lets through gets its canonical score at once.
//!
//! Each worker takes the next chunk of rows and runs it against all queries. Rows that come through are scored while
//! they are near, and go into the selection that all workers share. A [`Codec`] says how rows and queries are coded, multiplies
//! them, and knows the bound.
//!
//! The coarse scores of a sample give a threshold that about the best k of a query should exceed; it is trusted during
//! the scan and proven at the end by k rows that reach it. A query whose threshold is refuted is searched again
//! without one. A query for which so many rows come through that the float32 screen will be faster is given up.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::ahead::{Ahead, reading_ahead};
use super::codec::Codec;
use super::database::Element;
use super::screen::Problem;
use super::select::{Best, Rank, Ranked};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::prefetch::prefetch;
use crate::kernels::tiles::{Hit, Limits, PANEL};

/// Bytes of codes in a block: with the queries they stay in the second-level cache.
const BLOCK_BYTES: usize = 3 << 16;

/// Bytes of vectors in a chunk, after which survivors are scored: their rows are still in the third-level cache.
const CHUNK_BYTES: usize = 4 << 20;

/// Rows in a block at least, at most, and in multiples of.
const BLOCK_ROWS: Range<usize> = 24..6144;

/// Codes of shorter runs of selected rows are copied together.
const SHORT_RUN: usize = 96;

/// Fewer rows, or fewer for each of the best k, are not worth a sample.
const LEAST_ROWS: usize = 1 << 14;
const LEAST_ROWS_PER_K: usize = 32;
/// The same where thresholds are known.
const LEAST_ROWS_WITH_FLOORS: usize = 1 << 11;

/// A canonical score costs about as much as this many rows in the float32 screen.
const ROWS_PER_SCORE: usize = 12;

/// How many rows ahead vectors are fetched that are coded on the way.
const FETCHED: usize = 16;

/// How many survivors ahead the rows are fetched.
const AHEAD: usize = 6;

/// Whether a sweep is worth its preparations.
pub fn pays<T: Element>(problem: &Problem<'_, T>) -> bool {
    let rows = problem.database.searched();
    if problem.has_floors() {
        return rows >= LEAST_ROWS_WITH_FLOORS;
    }
    rows >= LEAST_ROWS && rows / LEAST_ROWS_PER_K >= problem.k
}

/// A database, its queries, and how they are coded.
#[derive(Debug)]
pub struct Sweep<'a, T, C> {
    pub(super) problem: &'a Problem<'a, T>,
    pub(super) codec: &'a C,
    may_give_up: bool,
}

/// What the workers share about a query.
#[derive(Debug)]
struct Shared {
    best: Mutex<Best>,
    /// The threshold of `best`.
    threshold: AtomicU32,
    /// How many rows came through.
    admitted: AtomicUsize,
    given_up: AtomicBool,
}

/// What a worker keeps from chunk to chunk.
#[derive(Debug)]
struct Worker<B> {
    /// A block of rows coded or copied together, and which they are.
    block: B,
    numbers: Vec<usize>,
    scratch: Vec<f32>,
    hits: Vec<Hit>,
    /// For each panel.
    limits: Vec<Limits>,
    /// The thresholds that the limits stand for.
    thresholds: Vec<Rank>,
    /// For each panel, the rows of the chunk that came through, and for which of its queries.
    survivors: Vec<Vec<(usize, u32)>>,
    /// The same for each query of a panel, one after the other.
    queue: Vec<(u32, usize)>,
    scored: Vec<(Rank, usize)>,
}

impl<'a, T: Element, C: Codec<T>> Sweep<'a, T, C> {
    /// Unless it `may_give_up`, the sweep goes on however many rows come through.
    pub const fn new(problem: &'a Problem<'a, T>, codec: &'a C, may_give_up: bool) -> Self {
        Self { problem, codec, may_give_up }
    }

    /// The best rows of each query; None for one that was given up. Rows are counted on `control`.
    pub fn search(&self, control: &Control) -> Result<Vec<Option<Ranked>>> {
        let floors: Vec<Rank> =
            (0..self.problem.screened.len()).map(|query| self.problem.floor(query)).collect();
        // What is known of other rows says more than a sample of these.
        let mut starts = if self.problem.has_floors() { floors.clone() } else { self.sample(control)? };
        starts.iter_mut().zip(&floors).for_each(|(start, floor)| *start = *floor.min(start));
        let mut found = self.scan(&starts, &vec![false; starts.len()], true, control)?;
        let refuted: Vec<bool> = found
            .iter()
            .zip(starts.iter().zip(&floors))
            .map(|(found, (start, floor))| {
                start < floor && found.as_ref().is_some_and(|found| found.len() < self.problem.k)
            })
            .collect();
        if refuted.contains(&true) {
            let skipped: Vec<bool> = refuted.iter().map(|refuted| !refuted).collect();
            let again = self.scan(&floors, &skipped, false, control)?;
            for ((place, again), refuted) in found.iter_mut().zip(again).zip(refuted) {
                if refuted {
                    *place = again;
                }
            }
        }
        Ok(found)
    }

    /// Panels of queries.
    pub(super) fn panels(&self) -> impl Iterator<Item = Range<usize>> + use<T, C> {
        let queries = self.problem.screened.len();
        (0..queries).step_by(PANEL).map(move |first| first..queries.min(first + PANEL))
    }

    /// Rows in a block.
    fn block_rows(&self) -> usize {
        (BLOCK_BYTES / self.codec.row_bytes()).clamp(BLOCK_ROWS.start, BLOCK_ROWS.end) / BLOCK_ROWS.start
            * BLOCK_ROWS.start
    }

    /// Rows in a chunk.
    fn chunk_rows(&self) -> usize {
        (CHUNK_BYTES / (self.problem.database.columns() * size_of::<T>()).max(1)).max(BLOCK_ROWS.start)
    }

    /// A pass over the database; None for queries that were given up, fewer than k rows where the start was refuted or
    /// is the floor.
    fn scan(
        &self,
        starts: &[Rank],
        skipped: &[bool],
        counted: bool,
        control: &Control,
    ) -> Result<Vec<Option<Ranked>>> {
        let shared: Vec<Shared> = starts
            .iter()
            .zip(skipped)
            .map(|(&start, &skipped)| Shared {
                best: Mutex::new(Best::new(self.problem.k, start)),
                threshold: AtomicU32::new(start.0),
                admitted: AtomicUsize::new(0),
                given_up: AtomicBool::new(skipped),
            })
            .collect();
        let chunks = self.problem.database.chunks(self.chunk_rows());
        let Problem { database, cold, .. } = *self.problem;
        let sparse = cold && self.codec.reads_planes() && database.has_planes();
        if sparse {
            database.read_at_random(true);
        }
        let (next, seen) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let workers = 0..rayon::current_num_threads().min(chunks.len());
        let work = |ahead: &Ahead| {
            let mut worker = self.worker();
            loop {
                let chunk = next.fetch_add(1, Relaxed);
                if chunk >= chunks.len() {
                    return Ok(());
                }
                ahead.wait(chunk, control)?;
                let rows = chunks.get(chunk);
                self.update(&mut worker, &shared);
                self.chunk(rows.clone(), &mut worker, control)?;
                let seen = seen.fetch_add(rows.len(), Relaxed) + rows.len();
                self.score(&mut worker, &shared, seen, control)?;
                if cold {
                    database.release(rows.clone());
                }
                control.advance(if counted { rows.len() as u64 } else { 0 })?;
            }
        };
        let outcome = reading_ahead(database, &chunks, self.codec.reads_planes(), cold, |ahead| {
            workers.into_par_iter().with_max_len(1).try_for_each(|_| work(ahead))
        });
        if sparse {
            database.read_at_random(false);
        }
        outcome?;
        shared
            .into_par_iter()
            .map(|shared| {
                control.advance(0)?;
                let best = shared.best.into_inner().unwrap_or_else(PoisonError::into_inner);
                Ok((!shared.given_up.into_inner()).then(|| best.finish()))
            })
            .collect()
    }

    fn worker(&self) -> Worker<C::Block> {
        let nothing =
            Limits { threshold: [f32::INFINITY; PANEL], residual: [0.0; PANEL], norm: [0.0; PANEL] };
        let limits = self.panels().map(|queries| {
            let mut limits = nothing.clone();
            for (lane, query) in queries.enumerate() {
                (limits.residual[lane], limits.norm[lane]) = self.codec.slopes(query);
            }
            limits
        });
        let limits: Vec<Limits> = limits.collect();
        let rows = self.block_rows();
        Worker {
            block: self.codec.block(rows),
            numbers: Vec::with_capacity(rows),
            scratch: vec![0.0; self.codec.scratch()],
            hits: vec![Hit::default(); rows],
            survivors: vec![Vec::new(); limits.len()],
            limits,
            // Of no score: every limit is set before the first chunk.
            thresholds: vec![Rank(0); self.problem.screened.len()],
            queue: Vec::new(),
            scored: Vec::new(),
        }
    }

    /// Takes over the thresholds that have risen.
    fn update(&self, worker: &mut Worker<C::Block>, shared: &[Shared]) {
        for (query, (shared, known)) in shared.iter().zip(&mut worker.thresholds).enumerate() {
            let limit = &mut worker.limits[query / PANEL].threshold[query % PANEL];
            let threshold = Rank(shared.threshold.load(Relaxed));
            if shared.given_up.load(Relaxed) {
                *limit = f32::INFINITY;
            } else if threshold != *known {
                *known = threshold;
                *limit = if threshold == Rank::LAST {
                    f32::NEG_INFINITY
                } else {
                    self.codec.limit(query, threshold.score())
                };
            }
        }
    }

    /// Screens the rows of a chunk.
    fn chunk(&self, rows: Range<usize>, worker: &mut Worker<C::Block>, control: &Control) -> Result<()> {
        let (columns, full) = (self.problem.database.columns(), self.block_rows());
        let mut outcome = Ok(());
        self.problem.database.runs(rows, |first, count, values| {
            if outcome.is_err() {
                return;
            }
            let codes = self.codec.ready(self.problem.database, first, count);
            if let Some(codes) = codes.filter(|_| count >= SHORT_RUN) {
                for start in (0..count).step_by(full) {
                    let codes = self.codec.slice(codes, start..count.min(start + full));
                    let rows = count.min(start + full) - start;
                    self.multiply(codes, rows, |i| first + start + i, &[], worker);
                    outcome = control.advance(0);
                    if outcome.is_err() {
                        break;
                    }
                }
                return;
            }
            let rest = if codes.is_some() { &[] } else { values };
            for (i, values) in values.chunks_exact(columns).enumerate() {
                let at = worker.numbers.len();
                if let Some(soon) = rest.get((i + FETCHED) * columns..(i + FETCHED + 1) * columns) {
                    prefetch(soon);
                }
                if let Some(codes) = codes {
                    self.codec.copy(at, self.codec.slice(codes, i..i + 1), &mut worker.block);
                } else if self.codec.set(at, values, &mut worker.block, &mut worker.scratch).is_nan() {
                    outcome = Err(self.problem.non_finite(first + i));
                    return;
                }
                worker.numbers.push(first + i);
                if worker.numbers.len() == full {
                    let ahead = &rest[((i + 1) * columns).min(rest.len())..];
                    self.flush(&ahead[..ahead.len().min(full * columns)], worker);
                    outcome = control.advance(0);
                    if outcome.is_err() {
                        return;
                    }
                }
            }
        });
        self.flush(&[], worker);
        outcome
    }

    /// Screens the rows that have been gathered; the vectors `ahead` are gathered next.
    fn flush(&self, ahead: &[T], worker: &mut Worker<C::Block>) {
        let block = std::mem::replace(&mut worker.block, self.codec.block(0));
        let numbers = std::mem::take(&mut worker.numbers);
        self.multiply(self.codec.head(&block, numbers.len()), numbers.len(), |i| numbers[i], ahead, worker);
        (worker.block, worker.numbers) = (block, numbers);
        worker.numbers.clear();
    }

    /// Multiplies a block of rows with all queries and notes which come through; the vectors `ahead` are needed next.
    fn multiply(
        &self,
        codes: C::Rows<'_>,
        rows: usize,
        number: impl Fn(usize) -> usize,
        mut ahead: &[T],
        worker: &mut Worker<C::Block>,
    ) {
        for (panel, queries) in self.panels().enumerate() {
            let hits = &mut worker.hits[..rows];
            let found = self.codec.hits(panel, queries.len(), codes, &worker.limits[panel], hits, ahead);
            ahead = &[];
            let hits = hits[..found].iter();
            // Planes damaged on the disk can make a score infinite, which passes in the lanes of no query, too.
            let lanes = u32::MAX >> (PANEL - queries.len());
            worker.survivors[panel].extend(hits.map(|hit| (number(hit.row as usize), hit.queries & lanes)));
        }
    }

    /// Computes the canonical scores of what came through and hands them in.
    fn score(
        &self,
        worker: &mut Worker<C::Block>,
        shared: &[Shared],
        seen: usize,
        control: &Control,
    ) -> Result<()> {
        let Worker { survivors, queue, scored, .. } = worker;
        if self.codec.reads_planes() {
            // Their vectors may still be on disk.
            self.problem.ask_for(survivors.iter().flatten().map(|&(row, _)| row), false);
        }
        for (panel, survivors) in self.panels().zip(survivors) {
            control.advance(0)?;
            let mut admitted = [0; PANEL];
            for &(_, queries) in survivors.iter() {
                each(queries, |lane| admitted[lane] += 1);
            }
            let mut wanted = 0;
            for (lane, query) in panel.clone().enumerate() {
                if admitted[lane] > 0
                    && !shared[query].admit(admitted[lane], self.may_give_up.then(|| self.patience(seen)))
                {
                    wanted |= 1 << lane;
                }
            }
            // Sorted by query, so that a query stays in the first-level cache.
            let mut places = [0; PANEL];
            for lane in 1..PANEL {
                places[lane] = places[lane - 1] + admitted[lane - 1];
            }
            queue.clear();
            queue.resize(places[PANEL - 1] + admitted[PANEL - 1], (0, 0));
            for (row, queries) in survivors.drain(..) {
                each(queries, |lane| {
                    queue[places[lane]] = (lane as u32, row);
                    places[lane] += 1;
                });
            }
            self.settle(panel.start, queue, wanted, shared, scored, control)?;
        }
        Ok(())
    }

    /// Scores rows for the wanted queries of a panel, which starts with query `first`, one query after the other.
    fn settle(
        &self,
        first: usize,
        queue: &[(u32, usize)],
        wanted: u32,
        shared: &[Shared],
        scored: &mut Vec<(Rank, usize)>,
        control: &Control,
    ) -> Result<()> {
        for &(_, row) in queue.iter().take(AHEAD) {
            prefetch(self.problem.database.row(row));
        }
        let mut at = 0;
        while let Some(&(lane, _)) = queue.get(at) {
            control.advance(0)?;
            let query = first + lane as usize;
            let threshold = Rank(shared[query].threshold.load(Relaxed));
            scored.clear();
            while let Some(&(_, row)) = queue.get(at).filter(|entry| entry.0 == lane) {
                if let Some(soon) = queue.get(at + AHEAD) {
                    prefetch(self.problem.database.row(soon.1));
                }
                at += 1;
                if at % 4096 == 0 {
                    control.advance(0)?;
                }
                if wanted >> lane & 1 == 0 {
                    continue;
                }
                let rank = Rank::of(self.problem.score(query, row));
                if rank <= threshold {
                    scored.push((rank, row));
                }
            }
            if !scored.is_empty() {
                let mut best = shared[query].best.lock().unwrap_or_else(PoisonError::into_inner);
                best.extend(scored.drain(..));
                shared[query].threshold.store(best.threshold().0, Relaxed);
            }
        }
        Ok(())
    }

    /// How many rows may come through for a query until the float32 screen is faster.
    fn patience(&self, seen: usize) -> usize {
        4 * self.problem.k + 2048 + seen / ROWS_PER_SCORE
    }
}

impl Shared {
    /// Counts rows that came through; whether the query is given up, because they are more than `patience`.
    fn admit(&self, rows: usize, patience: Option<usize>) -> bool {
        let admitted = self.admitted.fetch_add(rows, Relaxed) + rows;
        if patience.is_some_and(|patience| admitted > patience) {
            self.given_up.store(true, Relaxed);
        }
        self.given_up.load(Relaxed)
    }
}

/// Calls `visit` for each bit that is set.
fn each(mut bits: u32, mut visit: impl FnMut(usize)) {
    while bits != 0 {
        visit(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}
