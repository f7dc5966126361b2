//! Exact top-k by Hamming distance, by counting.
//!
//! Each selection sees its rows in increasing order, so a code enters only if it is strictly nearer than the k-th
//! nearest so far: on equal distance the earlier row wins. A histogram of the distances in the buffer gives
//! the k-th distance at any time.

use std::ops::Range;

use super::database::{Database, Matrix};
use super::schedule::{Scan, run};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::hamming::{BLOCK, Distances, Kernels, pack, to_words, words};

/// Queries in a group.
const GROUP: usize = 32;

/// Bytes of planes in a block of rows, and in the part of it that stays in the first-level cache.
const BLOCK_BYTES: usize = 1 << 18;
const PART_BYTES: usize = 1 << 14;

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
/// # Errors
/// [`Error::Parameter`] for `k = 0` or codes of 2^28 bytes or more, [`Error::Shape`] if the code lengths differ,
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
    if database.columns() >= 1 << 28 {
        return Err(Error::parameter("bytes of a code", "below 2^28", database.columns()));
    }
    let k = k.min(database.searched());
    if k == 0 || queries.rows() == 0 {
        return Ok(HammingTopK { k, ..HammingTopK::default() });
    }
    let scan = Codes {
        kernels: Kernels::active()?,
        database,
        k,
        queries: (0..queries.rows()).map(|query| to_words(queries.row(query)).collect()).collect(),
    };
    let mut merged: Vec<Vec<(u32, usize)>> = vec![Vec::new(); queries.rows()];
    for group in run(&scan, &database.chunks(scan.chunk()), true, control)?.into_iter().flatten() {
        for (query, nearest) in group.queries.zip(group.nearest) {
            merged[query].extend(nearest.entries);
        }
    }
    for entries in &mut merged {
        control.advance(0)?;
        entries.sort_unstable();
        entries.truncate(k);
    }
    Ok(HammingTopK {
        k,
        distances: merged.iter().flatten().map(|entry| entry.0 as i32).collect(),
        indices: merged.iter().flatten().map(|entry| entry.1 as i64).collect(),
    })
}

/// The nearest codes of one query so far.
#[derive(Debug)]
struct Nearest {
    k: usize,
    /// (distance, row), in the order of the rows.
    entries: Vec<(u32, usize)>,
    /// How many entries have each distance.
    histogram: Vec<usize>,
    /// Only codes nearer than this can enter: the k-th distance, once there are k.
    limit: u32,
    /// Entries nearer than `limit`.
    nearer: usize,
}

impl Nearest {
    fn new(k: usize, bits: usize) -> Self {
        Self { k, entries: Vec::new(), histogram: vec![0; bits + 2], limit: bits as u32 + 1, nearer: 0 }
    }

    /// Adds a code with `distance < self.limit`.
    fn push(&mut self, distance: u32, row: usize) {
        self.entries.push((distance, row));
        self.histogram[distance as usize] += 1;
        self.nearer += 1;
        while self.nearer >= self.k {
            self.limit -= 1;
            self.nearer -= self.histogram[self.limit as usize];
        }
        if self.entries.len() >= 2 * self.k + 256 {
            self.compact();
        }
    }

    /// Drops what is beaten: farther codes, and later ones at the k-th distance.
    fn compact(&mut self) {
        let (limit, mut room) = (self.limit, self.k - self.nearer);
        self.entries.retain(|entry| {
            let tie = entry.0 == limit && room > 0;
            room -= usize::from(tie);
            entry.0 < limit || tie
        });
        self.histogram[limit as usize] = self.k - self.nearer;
    }
}

/// The selection state of a group of queries.
struct Group {
    queries: Range<usize>,
    nearest: Vec<Nearest>,
    distances: Distances,
}

/// Codes as planes, 64 at a time.
struct Planes {
    words: Vec<u64>,
    first: usize,
    rows: usize,
}

struct Codes<'a> {
    kernels: &'static Kernels,
    database: &'a Database<'a, u8>,
    k: usize,
    queries: Vec<Vec<u64>>,
}

impl Codes<'_> {
    /// Words in a block of planes.
    fn block_words(&self) -> usize {
        words(self.database.columns()) * BLOCK
    }

    /// Rows in a chunk: a multiple of 64.
    fn chunk(&self) -> usize {
        (BLOCK_BYTES / (8 * self.block_words().max(BLOCK))).max(1) * BLOCK
    }
}

impl Scan for Codes<'_> {
    type Block = Planes;
    type Lane = Group;

    fn block(&self) -> Planes {
        Planes { words: vec![0; self.chunk() / BLOCK * self.block_words()], first: 0, rows: 0 }
    }

    fn lanes(&self) -> Vec<Group> {
        let (queries, bits) = (self.queries.len(), 8 * self.database.columns());
        (0..queries)
            .step_by(GROUP)
            .map(|first| {
                let queries = first..queries.min(first + GROUP);
                let nearest = queries.clone().map(|_| Nearest::new(self.k, bits)).collect();
                Group { queries, nearest, distances: [0; BLOCK] }
            })
            .collect()
    }

    fn lane_bytes(&self) -> usize {
        self.queries.len() * ((2 * self.k + 256) * size_of::<(u32, usize)>() + 64 * self.database.columns())
    }

    fn prepare(&self, rows: Range<usize>, block: &mut Planes) -> Result<()> {
        let (bytes, size) = (self.database.columns(), self.block_words());
        block.first = rows.start;
        block.rows = rows.len();
        self.database.runs(rows.clone(), |first, count, codes| {
            let mut done = 0;
            while done < count {
                let at = first - rows.start + done;
                let part = (BLOCK - at % BLOCK).min(count - done);
                let planes = &mut block.words[at / BLOCK * size..][..size];
                pack(&codes[done * bytes..(done + part) * bytes], bytes, at % BLOCK, planes);
                done += part;
            }
        });
        Ok(())
    }

    fn scan(&self, block: &Planes, group: &mut Group) -> Result<()> {
        let (size, blocks) = (self.block_words(), block.rows.div_ceil(BLOCK));
        let part = (PART_BYTES / (8 * size.max(BLOCK))).max(1);
        for start in (0..blocks).step_by(part) {
            for (query, nearest) in self.queries[group.queries.clone()].iter().zip(&mut group.nearest) {
                for at in start..blocks.min(start + part) {
                    let planes = &block.words[at * size..][..size];
                    let mut hits = self.kernels.below(query, planes, nearest.limit, &mut group.distances);
                    let rows = block.rows - at * BLOCK;
                    if rows < BLOCK {
                        hits &= (1 << rows) - 1;
                    }
                    while hits != 0 {
                        let lane = hits.trailing_zeros() as usize;
                        hits &= hits - 1;
                        // The limit may have sunk since the block was compared.
                        if group.distances[lane] < nearest.limit {
                            nearest.push(group.distances[lane], block.first + at * BLOCK + lane);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
