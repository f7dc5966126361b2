//! The canonical scores of what a sweep let through, and the selection of each query that all workers share.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::codec::Codec;
use super::element::Element;
use super::sample::rank;
use super::select::{Best, Rank};
use super::sweep::{Sweep, Worker};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::prefetch::prefetch;
use crate::kernels::tiles::PANEL;

/// Rows for each one that may come through until the float32 screen is faster.
const ROWS_PER_SCORE: usize = 6;

/// How many survivors ahead the rows are fetched.
pub const AHEAD: usize = 6;

/// A guess is made after this part of all rows, and again after this part more than were seen.
const FIRST_GUESS: usize = 24;
const NEXT_GUESS: usize = 4;

/// What the workers share about a query.
#[derive(Debug)]
pub struct Shared {
    best: Mutex<Best>,
    /// The threshold of `best`.
    threshold: AtomicU32,
    /// How many rows came through.
    admitted: AtomicUsize,
    given_up: AtomicBool,
    /// How far guesses may go; None for none.
    ceiling: Option<Rank>,
    /// How many rows are to be seen before the next guess.
    due: AtomicUsize,
}

impl Shared {
    /// Rows behind `start` are dropped, and others by guesses up to `ceiling`, if there is one.
    pub const fn new(k: usize, start: Rank, ceiling: Option<Rank>, skipped: bool) -> Self {
        Self {
            best: Mutex::new(Best::new(k, start)),
            threshold: AtomicU32::new(start.0),
            admitted: AtomicUsize::new(0),
            given_up: AtomicBool::new(skipped),
            ceiling,
            due: AtomicUsize::new(0),
        }
    }

    /// Rows behind this are not wanted.
    pub fn threshold(&self) -> Rank {
        Rank(self.threshold.load(Relaxed))
    }

    /// Whether nothing is wanted any more.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }

    /// The selection; None if it was given up.
    pub fn finish(self) -> Option<Best> {
        let best = self.best.into_inner().unwrap_or_else(PoisonError::into_inner);
        (!self.given_up.into_inner()).then_some(best)
    }

    /// Counts rows that came through; whether the query is given up, because they are more than `patience`.
    fn admit(&self, rows: usize, patience: Option<usize>) -> bool {
        let admitted = self.admitted.fetch_add(rows, Relaxed) + rows;
        if patience.is_some_and(|patience| admitted > patience) {
            self.given_up.store(true, Relaxed);
        }
        self.is_given_up()
    }

    /// Adds rows; `seen` of all `rows` have been screened.
    fn extend(&self, scored: &mut Vec<(Rank, usize)>, k: usize, seen: usize, rows: usize) {
        let mut best = self.best.lock().unwrap_or_else(PoisonError::into_inner);
        best.extend(scored.drain(..));
        if let Some(ceiling) = self.ceiling.filter(|_| seen >= self.due.load(Relaxed).max(rows / FIRST_GUESS))
        {
            self.due.store(seen + (seen / NEXT_GUESS).max(rows / FIRST_GUESS), Relaxed);
            best.guess(rank(k, seen, rows, 4.0, 8.0), ceiling);
        }
        self.threshold.store(best.threshold().0, Relaxed);
    }
}

impl<T: Element, C: Codec<T>> Sweep<'_, T, C> {
    /// Computes the canonical scores of what came through, of rows from `start` on, and hands them in; `seen` rows have been
    /// screened.
    pub(super) fn score(
        &self,
        start: usize,
        worker: &mut Worker<C::Block>,
        shared: &[Shared],
        seen: usize,
        control: &Control,
    ) -> Result<()> {
        let Worker { survivors, queue, scored, .. } = worker;
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
            self.settle(start, panel.start, queue, wanted, shared, scored, seen, control)?;
        }
        Ok(())
    }

    /// Scores rows for the wanted queries of a panel, which starts with query `first`, one query after the other.
    #[expect(clippy::too_many_arguments, reason = "what a chunk, a panel and a worker are known by")]
    fn settle(
        &self,
        start: usize,
        first: usize,
        queue: &[(u32, usize)],
        wanted: u32,
        shared: &[Shared],
        scored: &mut Vec<(Rank, usize)>,
        seen: usize,
        control: &Control,
    ) -> Result<()> {
        let database = self.problem.database.near(start);
        for &(_, row) in queue.iter().take(AHEAD) {
            prefetch(database.row(row));
        }
        let mut at = 0;
        while let Some(&(lane, _)) = queue.get(at) {
            control.advance(0)?;
            let query = first + lane as usize;
            let threshold = shared[query].threshold();
            scored.clear();
            while let Some(&(_, row)) = queue.get(at).filter(|entry| entry.0 == lane) {
                if let Some(soon) = queue.get(at + AHEAD) {
                    prefetch(database.row(soon.1));
                }
                at += 1;
                if at % 4096 == 0 {
                    control.advance(0)?;
                }
                if wanted >> lane & 1 == 0 {
                    continue;
                }
                let rank = Rank::of(self.problem.score_of(query, database.row(row)));
                if rank <= threshold {
                    scored.push((rank, row));
                }
            }
            if !scored.is_empty() {
                shared[query].extend(scored, self.problem.k, seen, self.problem.database.searched());
            }
        }
        Ok(())
    }

    /// How many rows may come through for a query until the float32 screen is faster.
    fn patience(&self, seen: usize) -> usize {
        4 * self.problem.k + 2048 + seen / ROWS_PER_SCORE
    }
}

/// Calls `visit` for each bit that is set.
pub fn each(mut bits: u32, mut visit: impl FnMut(usize)) {
    while bits != 0 {
        visit(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}
