//! Exact top-k by Hamming distance, by counting.
//!
//! At its beginning a selection admits almost everything, which costs more than the counting. So for many
//! results a sample of the rows tells a distance within which a few more than k codes are expected; nothing
//! farther is admitted. That is a guess: a query for which fewer than k codes came is searched again without it.

use std::ops::Range;

use rayon::prelude::*;

use super::ahead::{Ahead, reading_ahead};
use super::database::{Chunks, Database, Matrix};
use super::nearest::{Nearest, in_order};
use super::schedule::{Scan, run};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::aligned::Aligned;
use crate::kernels::hamming::{BLOCK, Distances, Kernels, to_words, words};

/// Queries in a group.
const GROUP: usize = 64;

/// With so few queries the time goes into reading the codes.
const FEW: usize = 8;

/// Bytes of planes in a block of rows, and in the part of it that stays in the first-level cache.
const BLOCK_BYTES: usize = 1 << 18;
const PART_BYTES: usize = 1 << 14;

/// One block of 64 rows in so many is in the sample, if the database and k are large enough for that to pay.
const EVERY: usize = 128;
const SAMPLED_K: usize = 256;
const SAMPLED_ROWS: usize = 1 << 17;

/// The nearest codes of each query, nearest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HammingTopK {
    /// Results per query: k, or the number of codes if that is smaller.
    pub k: usize,
    /// Distances in bits, `k` a query.
    pub distances: Vec<i32>,
    /// Database rows, `k` a query.
    pub indices: Vec<i64>,
}

/// The `k` codes nearest to each query, by (distance ascending, row ascending).
///
/// Complexity: O(queries n bits); memory O(queries k), times the number of threads if that is little.
///
/// # Errors
/// [`Error::Parameter`] for `k = 0` or codes of 2^20 bytes or more, [`Error::Shape`] if the code lengths differ,
/// [`Error::Interrupted`].
pub fn hamming_topk(
    queries: Matrix<'_, u8>,
    database: &Database<'_, u8>,
    k: usize,
    control: &Control,
) -> Result<HammingTopK> {
    if k == 0 {
        return Err(Error::parameter("k", "at least 1", k));
    }
    if queries.columns() != database.columns() {
        let expected = format!("codes of {} bytes, as the database has", database.columns());
        return Err(Error::shape("queries", expected, format!("codes of {} bytes", queries.columns())));
    }
    if database.columns() >= 1 << 20 {
        return Err(Error::parameter("bytes of a code", "below 2^20", database.columns()));
    }
    let k = k.min(database.searched());
    if k == 0 || queries.rows() == 0 {
        return Ok(HammingTopK { k, ..HammingTopK::default() });
    }
    let words: Vec<Vec<u64>> = (0..queries.rows()).map(|query| to_words(queries.row(query))).collect();
    let guesses = guesses(&words, database, k, control)?;
    let mut found = nearest(&words, database, k, &guesses, true, control)?;
    let refuted: Vec<usize> = (0..found.len()).filter(|&query| found[query].len() < k).collect();
    if !refuted.is_empty() {
        let words: Vec<Vec<u64>> = refuted.iter().map(|&query| words[query].clone()).collect();
        let again = nearest(&words, database, k, &vec![None; words.len()], false, control)?;
        for (query, entries) in refuted.into_iter().zip(again) {
            found[query] = entries;
        }
    }
    Ok(HammingTopK {
        k,
        distances: found.iter().flatten().map(|entry| entry.0 as i32).collect(),
        indices: found.iter().flatten().map(|entry| entry.1 as i64).collect(),
    })
}

/// For each query a distance below which a few more than `k` codes are expected, if a sample can tell.
fn guesses(
    queries: &[Vec<u64>],
    database: &Database<'_, u8>,
    k: usize,
    control: &Control,
) -> Result<Vec<Option<u32>>> {
    let none = vec![None; queries.len()];
    if k < SAMPLED_K || database.searched() < SAMPLED_ROWS {
        return Ok(none);
    }
    let columns = database.columns();
    let (mut pieces, mut seen) = (Vec::new(), 0);
    let mut outcome = Ok(());
    database.runs(0..database.rows(), |_, count, codes| {
        let mut at = 0;
        while at < count {
            let within = seen % (EVERY * BLOCK);
            let (sampled, left) =
                if within < BLOCK { (true, BLOCK - within) } else { (false, EVERY * BLOCK - within) };
            let part = left.min(count - at);
            if sampled {
                match Matrix::new("sample", part, columns, &codes[at * columns..(at + part) * columns]) {
                    Ok(piece) => pieces.push(piece),
                    Err(error) => outcome = Err(error),
                }
            }
            at += part;
            seen += part;
        }
    });
    outcome?;
    let sample = Database::new(columns, pieces, None)?;
    let expected = k as f64 * sample.rows() as f64 / database.searched() as f64;
    let rank = (expected + 4.0 * expected.sqrt() + 3.0).ceil() as usize;
    if rank >= sample.rows() {
        return Ok(none);
    }
    let found = nearest(queries, &sample, rank, &none, false, control)?;
    Ok(found.iter().map(|entries| entries.last().map(|entry| entry.0 + 1)).collect())
}

/// The `k` nearest codes of each query among those nearer than its limit, as (distance, row), in order.
fn nearest(
    queries: &[Vec<u64>],
    database: &Database<'_, u8>,
    k: usize,
    limits: &[Option<u32>],
    counted: bool,
    control: &Control,
) -> Result<Vec<Vec<(u32, usize)>>> {
    let bits = 8 * database.columns();
    let cold = database.is_cold();
    let scan = Codes { kernels: Kernels::active()?, database, cold, k, queries, limits };
    let mut merged: Vec<Vec<(u32, usize)>> = vec![Vec::new(); queries.len()];
    for group in run(&scan, &database.chunks(scan.rows(BLOCK_BYTES)), counted, control)?.into_iter().flatten()
    {
        for (query, nearest) in group.queries.zip(group.nearest) {
            if merged[query].is_empty() {
                merged[query] = nearest.entries;
            } else {
                merged[query].extend(nearest.entries);
            }
        }
    }
    merged
        .into_par_iter()
        .with_max_len(16)
        .map(|entries| {
            control.advance(0)?;
            Ok(in_order(entries, bits, k))
        })
        .collect()
}

/// The selection state of a group of queries.
struct Group {
    queries: Range<usize>,
    nearest: Vec<Nearest>,
    distances: Distances,
    /// With few queries, the part of a block that is looked at.
    part: Planes,
}

/// Codes as planes, 64 at a time, without gaps for rows that are not selected.
#[derive(Default)]
struct Planes {
    /// The rows these are the codes of.
    rows: Range<usize>,
    words: Aligned<u64>,
    codes: usize,
    /// (place among the codes, database row) where consecutive rows begin.
    runs: Vec<(usize, usize)>,
}

impl Planes {
    /// The database row of a code.
    fn row(&self, at: usize) -> usize {
        let (place, row) = self.runs[self.runs.partition_point(|run| run.0 <= at) - 1];
        row + at - place
    }
}

struct Codes<'a> {
    kernels: &'static Kernels,
    database: &'a Database<'a, u8>,
    /// Whether much of the database is on disk and not in memory.
    cold: bool,
    k: usize,
    queries: &'a [Vec<u64>],
    limits: &'a [Option<u32>],
}

impl Codes<'_> {
    /// Words in a block of planes.
    fn block_words(&self) -> usize {
        words(self.database.columns()) * BLOCK
    }

    /// Whether there are so few queries that planes need not outlive the first-level cache.
    const fn few(&self) -> bool {
        self.queries.len() <= FEW
    }

    /// Rows whose planes take `bytes`: a multiple of 64.
    fn rows(&self, bytes: usize) -> usize {
        (bytes / (8 * self.block_words())).max(1) * BLOCK
    }

    /// Room for the codes of `rows` rows, a multiple of 64.
    fn planes(&self, rows: usize) -> Planes {
        Planes { words: Aligned::zeros(rows / BLOCK * self.block_words()), ..Planes::default() }
    }

    fn pack(&self, rows: Range<usize>, planes: &mut Planes) {
        let (bytes, size) = (self.database.columns(), self.block_words());
        planes.codes = 0;
        planes.runs.clear();
        self.database.runs(rows, |first, count, codes| {
            planes.runs.push((planes.codes, first));
            let mut done = 0;
            while done < count {
                let at = planes.codes;
                let part = (BLOCK - at % BLOCK).min(count - done);
                let place = &mut planes.words.as_mut_slice()[at / BLOCK * size..][..size];
                self.kernels.pack(&codes[done * bytes..(done + part) * bytes], bytes, at % BLOCK, place);
                done += part;
                planes.codes += part;
            }
        });
    }

    /// Runs a group of queries over codes.
    fn compare(&self, planes: &Planes, group: &mut Group) {
        let (size, blocks) = (self.block_words(), planes.codes.div_ceil(BLOCK));
        let part = self.rows(PART_BYTES) / BLOCK;
        for start in (0..blocks).step_by(part) {
            let end = blocks.min(start + part);
            for (query, nearest) in self.queries[group.queries.clone()].iter().zip(&mut group.nearest) {
                let mut at = start;
                while at < end {
                    let left = &planes.words.as_slice()[at * size..end * size];
                    let (steps, mut hits) =
                        self.kernels.seek(query, left, nearest.limit, &mut group.distances);
                    at += steps;
                    let first = at * BLOCK;
                    // The lanes behind the last code hold anything.
                    let codes = planes.codes.saturating_sub(first);
                    if codes < BLOCK {
                        hits &= (1 << codes) - 1;
                    }
                    while hits != 0 {
                        let lane = hits.trailing_zeros() as usize;
                        hits &= hits - 1;
                        // The limit may have sunk since the block was compared.
                        if group.distances[lane] < nearest.limit {
                            nearest.push(group.distances[lane], planes.row(first + lane));
                        }
                    }
                    at += 1;
                }
            }
        }
    }
}

impl Scan for Codes<'_> {
    type Block = Planes;
    type Lane = Group;

    fn block(&self) -> Planes {
        if self.few() { Planes::default() } else { self.planes(self.rows(BLOCK_BYTES)) }
    }

    fn lanes(&self) -> Vec<Group> {
        let (queries, bits) = (self.queries.len(), 8 * self.database.columns());
        (0..queries)
            .step_by(GROUP)
            .map(|first| {
                let queries = first..queries.min(first + GROUP);
                let nearest =
                    queries.clone().map(|query| Nearest::new(self.k, bits, self.limits[query])).collect();
                let part = if self.few() { self.planes(self.rows(PART_BYTES)) } else { Planes::default() };
                Group { queries, nearest, distances: [0; BLOCK], part }
            })
            .collect()
    }

    fn lane_bytes(&self) -> usize {
        let entries = Nearest::capacity(self.k) * size_of::<(u32, usize)>();
        self.queries.len() * (entries + 8 * self.database.columns() * size_of::<usize>())
    }

    fn reading_ahead<R>(&self, chunks: &Chunks, search: impl FnOnce(&Ahead) -> R) -> R {
        reading_ahead(self.database, chunks, false, self.cold, search)
    }

    fn release(&self, rows: Range<usize>) {
        if self.cold {
            self.database.release(rows);
        }
    }

    fn prepare(&self, rows: Range<usize>, block: &mut Planes) -> Result<()> {
        if !self.few() {
            self.pack(rows.clone(), block);
        }
        block.rows = rows;
        Ok(())
    }

    fn scan(&self, block: &Planes, group: &mut Group) -> Result<()> {
        if self.few() {
            // Packed, compared and forgotten within the first-level cache.
            let mut part = std::mem::take(&mut group.part);
            let (rows, step) = (block.rows.clone(), self.rows(PART_BYTES));
            for first in rows.clone().step_by(step) {
                self.pack(first..rows.end.min(first + step), &mut part);
                self.compare(&part, group);
            }
            group.part = part;
        } else {
            self.compare(block, group);
        }
        Ok(())
    }
}
