//! How blocks of rows and groups of queries meet on the threads.
//!
//! With many groups of queries, all threads go through the database in step: they prepare a few blocks
//! together, then share out the groups. With few, each worker takes the next chunk of rows and runs it
//! against all groups, with its own selection state, which is merged at the end. Either way the database is read
//! once, front to back, and each selection sees its rows in increasing order.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::ahead::Ahead;
use super::database::Chunks;
use crate::control::Control;
use crate::error::Result;

/// Most memory that selection states of several workers may take together.
const MOST_BYTES: usize = 512 << 20;

/// Work that runs over blocks of rows with groups of queries.
pub trait Scan: Sync {
    /// A prepared block of rows.
    type Block: Send + Sync;
    /// The selection state of one group of queries.
    type Lane: Send;

    /// Room for a block.
    fn block(&self) -> Self::Block;
    /// A fresh state for each group of queries.
    fn lanes(&self) -> Vec<Self::Lane>;
    /// Bytes that all lanes together take, at most.
    fn lane_bytes(&self) -> usize;
    /// Calls `search` while the rows of the chunks are read ahead of it, if they are on disk.
    fn reading_ahead<R>(&self, chunks: &Chunks, search: impl FnOnce(&Ahead) -> R) -> R;
    /// Told of rows after they were read.
    fn release(&self, rows: Range<usize>);
    /// Reads and checks rows.
    fn prepare(&self, rows: Range<usize>, block: &mut Self::Block) -> Result<()>;
    /// Runs one group of queries over a block.
    fn scan(&self, block: &Self::Block, lane: &mut Self::Lane) -> Result<()>;
}

/// Runs `scan` over all chunks on the current thread pool; the lanes of each worker. With `counted`, rows done
/// are counted on `control`.
pub fn run<S: Scan>(
    scan: &S,
    chunks: &Chunks,
    counted: bool,
    control: &Control,
) -> Result<Vec<Vec<S::Lane>>> {
    let threads = rayon::current_num_threads();
    let (lanes, unit) = (scan.lanes(), u64::from(counted));
    if lanes.is_empty() || chunks.is_empty() {
        return Ok(vec![lanes]);
    }
    scan.reading_ahead(chunks, |ahead| {
        if lanes.len() >= 2 * threads || scan.lane_bytes().saturating_mul(threads) > MOST_BYTES {
            in_step(scan, lanes, chunks, ahead, unit, control)
        } else {
            apart(scan, chunks, ahead, unit, control)
        }
    })
}

/// As many as there are threads, if there is a chunk for each.
fn workers(chunks: &Chunks) -> Range<usize> {
    0..rayon::current_num_threads().min(chunks.len())
}

fn in_step<S: Scan>(
    scan: &S,
    mut lanes: Vec<S::Lane>,
    chunks: &Chunks,
    ahead: &Ahead,
    unit: u64,
    control: &Control,
) -> Result<Vec<Vec<S::Lane>>> {
    let mut blocks: Vec<S::Block> = workers(chunks).map(|_| scan.block()).collect();
    let mut first = 0;
    while first < chunks.len() {
        let count = blocks.len().min(chunks.len() - first);
        ahead.wait(first + count - 1, control)?;
        let current = &mut blocks[..count];
        current
            .par_iter_mut()
            .enumerate()
            .with_max_len(1)
            .try_for_each(|(at, block)| scan.prepare(chunks.get(first + at), block))?;
        let current = &*current;
        lanes.par_iter_mut().with_max_len(1).try_for_each(|lane| {
            current.iter().try_for_each(|block| {
                control.advance(0)?;
                scan.scan(block, lane)
            })
        })?;
        let done = chunks.get(first).start..chunks.get(first + count - 1).end;
        control.advance(unit * done.len() as u64)?;
        scan.release(done);
        first += count;
    }
    Ok(vec![lanes])
}

fn apart<S: Scan>(
    scan: &S,
    chunks: &Chunks,
    ahead: &Ahead,
    unit: u64,
    control: &Control,
) -> Result<Vec<Vec<S::Lane>>> {
    let next = AtomicUsize::new(0);
    workers(chunks)
        .into_par_iter()
        .with_max_len(1)
        .map(|_| {
            let (mut lanes, mut block) = (scan.lanes(), scan.block());
            loop {
                let chunk = next.fetch_add(1, Ordering::Relaxed);
                if chunk >= chunks.len() {
                    return Ok(lanes);
                }
                ahead.wait(chunk, control)?;
                let rows = chunks.get(chunk);
                scan.prepare(rows.clone(), &mut block)?;
                for lane in &mut lanes {
                    scan.scan(&block, lane)?;
                    control.advance(0)?;
                }
                control.advance(unit * rows.len() as u64)?;
                scan.release(rows);
            }
        })
        .collect()
}
