//! A pass over a database with coarse codes: what the bound of a codec lets through gets its canonical score at once.
//!
//! Each worker takes the next chunk of rows and runs it against all queries. Rows that come through are scored while
//! they are near, and go into the selection that all workers share. A [`Codec`] says how rows and queries are coded, multiplies
//! them, and knows the bound.
//!
//! The coarse scores of a sample give a threshold that about the best k of a query should exceed, and what was seen of
//! the rows better ones; they are trusted during the scan and proven at the end by k rows that reach them. A query whose
//! threshold is refuted is searched again, at last without one. A query for which so many rows come through that the
//! float32 screen is faster is given up; by the sample's word, before the scan.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rayon::prelude::*;

use super::ahead::{Ahead, reading_ahead};
use super::codec::Codec;
use super::element::Element;
use super::sample::Guess;
use super::screen::Problem;
use super::select::{Rank, Ranked};
use super::settle::Shared;
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

/// How many rows ahead vectors are fetched that are coded on the way.
const FETCHED: usize = 16;

/// Whether a sweep is worth its preparations.
pub fn pays<T: Element>(problem: &Problem<'_, T>) -> bool {
    let rows = problem.database.searched();
    if problem.has_floors() {
        return rows >= LEAST_ROWS_WITH_FLOORS;
    }
    pays_for(rows, problem.k)
}

/// [`pays`] where nothing is known of other rows.
pub const fn pays_for(rows: usize, k: usize) -> bool {
    rows >= LEAST_ROWS && rows / LEAST_ROWS_PER_K >= k
}

/// A database, its queries, and how they are coded.
#[derive(Debug)]
pub struct Sweep<'a, T, C> {
    pub(super) problem: &'a Problem<'a, T>,
    pub(super) codec: &'a C,
    pub(super) may_give_up: bool,
}

/// Where a scan starts.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// Rows behind this are dropped.
    threshold: Rank,
    /// How far guesses may go; None for none.
    ceiling: Option<Rank>,
    /// Not searched at all.
    skipped: bool,
}

/// What a scan found for a query.
#[derive(Debug)]
struct Found {
    best: Ranked,
    /// Whether guesses rose above the start.
    guessed: bool,
}

/// What a worker keeps from chunk to chunk.
#[derive(Debug)]
pub(super) struct Worker<B> {
    /// A block of rows coded or copied together, and which they are.
    block: B,
    numbers: Vec<usize>,
    scratch: Vec<f32>,
    hits: Vec<Hit>,
    /// For each panel.
    limits: Vec<Limits>,
    /// The thresholds that the limits stand for, and the centre of the rows they are for.
    thresholds: Vec<Rank>,
    centre: usize,
    /// For each panel, the rows of the chunk that came through, and for which of its queries.
    pub(super) survivors: Vec<Vec<(usize, u32)>>,
    /// The rows of the chunk before and what came through of them, while its vectors are on their way.
    held: Option<Range<usize>>,
    held_survivors: Vec<Vec<(usize, u32)>>,
    /// The same for each query of a panel, one after the other.
    pub(super) queue: Vec<(u32, usize)>,
    pub(super) scored: Vec<(Rank, usize)>,
}

impl<'a, T: Element, C: Codec<T>> Sweep<'a, T, C> {
    /// Unless it `may_give_up`, the sweep goes on however many rows come through.
    pub const fn new(problem: &'a Problem<'a, T>, codec: &'a C, may_give_up: bool) -> Self {
        Self { problem, codec, may_give_up }
    }

    /// What to expect of each query.
    pub fn guesses(&self, control: &Control) -> Result<Vec<Guess>> {
        // What is known of other rows says more than a sample of these.
        if self.problem.has_floors() {
            let queries = 0..self.problem.screened.len();
            return Ok(queries.map(|query| Guess::known(self.problem.floor(query))).collect());
        }
        self.sample(control)
    }

    /// The best rows of each query; None for one that was given up. Rows are counted on `control`.
    pub fn search(&self, guesses: &[Guess], control: &Control) -> Result<Vec<Option<Ranked>>> {
        let floors: Vec<Rank> =
            (0..self.problem.screened.len()).map(|query| self.problem.floor(query)).collect();
        let start = |(guess, floor): (&Guess, &Rank)| Start {
            threshold: *floor.min(&guess.start),
            // What comes from disk comes in order, and the front says little of the rest.
            ceiling: Some(guess.ceiling).filter(|&ceiling| !self.problem.cold && ceiling != Rank::LAST),
            skipped: false,
        };
        let mut starts: Vec<Start> = guesses.iter().zip(&floors).map(start).collect();
        let mut found = self.scan(&starts, true, control)?;
        loop {
            let mut refuted = false;
            for ((start, floor), found) in starts.iter_mut().zip(&floors).zip(&found) {
                let guessed = found.as_ref().is_some_and(|found| found.guessed);
                let few = found.as_ref().is_some_and(|found| found.best.len() < self.problem.k);
                start.skipped = !few || !guessed && start.threshold >= *floor;
                // First without the guesses, then without the sample.
                start.ceiling = None;
                if !guessed {
                    start.threshold = *floor;
                }
                refuted |= !start.skipped;
            }
            if !refuted {
                return Ok(found.into_iter().map(|found| found.map(|found| found.best)).collect());
            }
            let again = self.scan(&starts, false, control)?;
            for ((place, again), start) in found.iter_mut().zip(again).zip(&starts) {
                if !start.skipped {
                    *place = again;
                }
            }
        }
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

    /// A pass over the database; None for queries that were given up, fewer than k rows where what was trusted is refuted
    /// or the start is the floor.
    fn scan(&self, starts: &[Start], counted: bool, control: &Control) -> Result<Vec<Option<Found>>> {
        let shared: Vec<Shared> = starts
            .iter()
            .map(|start| Shared::new(self.problem.k, start.threshold, start.ceiling, start.skipped))
            .collect();
        let chunks = self.problem.database.chunks(self.chunk_rows());
        let Problem { database, cold, .. } = *self.problem;
        let late = cold && self.codec.reads_planes();
        let sparse = late && database.has_planes();
        if sparse {
            database.read_at_random(true);
        }
        // In memory any order will do, and one that goes here and there shows soon what the whole is like.
        let stride = if cold { 1 } else { spread(chunks.len()) };
        let (next, screened) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let workers = 0..rayon::current_num_threads().min(chunks.len());
        let finish = |rows: Range<usize>, worker: &mut Worker<C::Block>| {
            // Chunks hold the same number of searched rows, however far apart these lie.
            let part = screened.load(Relaxed) as u128 * database.searched() as u128;
            let seen = (part / chunks.len() as u128) as usize;
            self.score(rows.start, worker, &shared, seen, control)?;
            if cold {
                database.release(rows.clone());
            }
            control.advance(if counted { rows.len() as u64 } else { 0 })
        };
        let work = |ahead: &Ahead| {
            let mut worker = self.worker();
            loop {
                let chunk = next.fetch_add(1, Relaxed);
                if chunk >= chunks.len() {
                    let rows = worker.release();
                    return rows.map_or(Ok(()), |rows| finish(rows, &mut worker));
                }
                ahead.wait(chunk, control)?;
                let rows = chunks.get((chunk as u128 * stride as u128 % chunks.len() as u128) as usize);
                let centre = self.codec.centre(database, rows.start);
                self.update(&mut worker, &shared, centre);
                self.chunk(rows.clone(), &mut worker, &shared, control)?;
                screened.fetch_add(1, Relaxed);
                if late {
                    // Their vectors are still on disk: they come while the next chunk is screened.
                    self.problem.ask_for(worker.survivors.iter().flatten().map(|&(row, _)| row), false);
                    if let Some(before) = worker.hold(rows) {
                        finish(before, &mut worker)?;
                    }
                } else {
                    finish(rows, &mut worker)?;
                }
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
                Ok(shared.finish().map(|best| Found { guessed: best.has_guessed(), best: best.finish() }))
            })
            .collect()
    }

    /// Makes the limit of a query one for rows around a centre.
    pub(super) fn slopes(&self, query: usize, centre: usize, limits: &mut Limits) {
        let lane = query % PANEL;
        [limits.residual[lane], limits.norm[lane], limits.centre[lane]] = self.codec.slopes(query, centre);
    }

    /// The limit of a query's coarse scores, of rows around a centre.
    pub(super) fn limit(&self, query: usize, centre: usize, threshold: Rank) -> f32 {
        if threshold == Rank::LAST {
            return f32::NEG_INFINITY;
        }
        self.codec.limit(query, centre, threshold.score())
    }

    fn worker(&self) -> Worker<C::Block> {
        let limits = vec![Limits::CLOSED; self.panels().count()];
        let rows = self.block_rows();
        Worker {
            block: self.codec.block(rows),
            numbers: Vec::with_capacity(rows),
            scratch: vec![0.0; self.codec.scratch()],
            hits: vec![Hit::default(); rows],
            survivors: vec![Vec::new(); limits.len()],
            held: None,
            held_survivors: vec![Vec::new(); limits.len()],
            limits,
            // Of no centre: every limit is set before the first chunk.
            thresholds: vec![Rank(0); self.problem.screened.len()],
            centre: usize::MAX,
            queue: Vec::new(),
            scored: Vec::new(),
        }
    }

    /// Takes over the thresholds that have risen, for rows around a centre.
    fn update(&self, worker: &mut Worker<C::Block>, shared: &[Shared], centre: usize) {
        let moved = std::mem::replace(&mut worker.centre, centre) != centre;
        for (query, (shared, known)) in shared.iter().zip(&mut worker.thresholds).enumerate() {
            let limits = &mut worker.limits[query / PANEL];
            if moved {
                self.slopes(query, centre, limits);
            }
            let (limit, threshold) = (&mut limits.threshold[query % PANEL], shared.threshold());
            if shared.is_given_up() {
                *limit = f32::INFINITY;
            } else if moved || threshold != *known {
                *known = threshold;
                *limit = self.limit(query, centre, threshold);
            }
        }
    }

    /// Screens the rows of a chunk.
    fn chunk(
        &self,
        rows: Range<usize>,
        worker: &mut Worker<C::Block>,
        shared: &[Shared],
        control: &Control,
    ) -> Result<()> {
        let (columns, full) = (self.problem.database.columns(), self.block_rows());
        let mut outcome = Ok(());
        self.problem.database.runs(rows, |first, count, values| {
            if outcome.is_err() {
                return;
            }
            let centre = self.codec.centre(self.problem.database, first);
            if centre != worker.centre {
                self.flush(&[], worker);
                self.update(worker, shared, centre);
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
            let found = self.codec.hits(
                worker.centre,
                panel,
                queries.len(),
                codes,
                &worker.limits[panel],
                hits,
                ahead,
            );
            ahead = &[];
            let hits = hits[..found].iter();
            // Planes damaged on the disk can make a score infinite, which passes in the lanes of no query, too.
            let lanes = lanes(queries.len());
            worker.survivors[panel].extend(hits.map(|hit| (number(hit.row as usize), hit.queries & lanes)));
        }
    }
}

/// The bits of a panel's queries.
pub const fn lanes(queries: usize) -> u32 {
    u32::MAX >> (PANEL - queries)
}

impl<B> Worker<B> {
    /// Holds the survivors of `rows` back; what was held before takes their place, if there was something.
    fn hold(&mut self, rows: Range<usize>) -> Option<Range<usize>> {
        std::mem::swap(&mut self.survivors, &mut self.held_survivors);
        self.held.replace(rows)
    }

    /// Takes up what was held back.
    fn release(&mut self) -> Option<Range<usize>> {
        std::mem::swap(&mut self.survivors, &mut self.held_survivors);
        self.held.take()
    }
}

/// A step that visits `count` places one after the other so that those visited are always spread evenly; it shares no
/// divisor with `count`.
fn spread(count: usize) -> usize {
    let common = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    // The golden section.
    let golden = (count as f64 * 0.618_033_988_75) as usize;
    (golden.max(1)..count).find(|&step| common(step, count) == 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_visited_once() {
        for count in 0..500 {
            let stride = spread(count);
            let mut places: Vec<usize> = (0..count).map(|at| at * stride % count).collect();
            for part in [count / 8, count / 4, count / 2].into_iter().filter(|&part| part > 8) {
                let front = places[..part].iter().filter(|&&place| place < count / 2).count();
                assert!(front.abs_diff(part / 2) <= part / 6 + 2, "{count}: {front} of {part}");
            }
            places.sort_unstable();
            assert_eq!(places, (0..count).collect::<Vec<_>>());
        }
    }
}
