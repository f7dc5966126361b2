//! A long search in parts: between two of them the control is asked, and threads share them.
//!
//! Queries finished are counted as parts of the control. A part is some queries against some database codes. Its answer goes into places of its own where it is not the first
//! of its queries, and counts where it is strictly nearer: earlier parts hold the lower indices.

use rayon::prelude::*;

use super::QueryBlock;
use crate::control::Control;
use crate::error::Result;

/// Pairs of codes that are compared in one piece: below 0.2 s for the longest codes without vectors, a millisecond with.
const SHORT: usize = 1 << 24;
/// Queries of a part: whole groups, and whole blocks of groups, of every level.
const QUERIES: usize = 768;
/// Database codes of a part: whole runs of the codes that share a key, at every level.
const CODES: usize = 1 << 14;

/// The distance of every query to its nearest code of `database`, codes of `width` bytes, of which there are some.
pub fn distances(
    block: &QueryBlock,
    database: &[u8],
    width: usize,
    out: &mut [u16],
    control: &Control,
) -> Result<()> {
    if is_short(out.len(), database.len() / width) {
        block.part_distances(0, database, out);
        return control.check();
    }
    let part = |(part, out): (usize, &mut [u16])| {
        let first = part * QUERIES;
        let mut found = [0; QUERIES];
        for (codes, database) in database.chunks(CODES * width).enumerate() {
            control.check()?;
            if codes == 0 {
                block.part_distances(first, database, out);
                continue;
            }
            let found = &mut found[..out.len()];
            block.part_distances(first, database, found);
            for (best, found) in out.iter_mut().zip(found) {
                *best = (*best).min(*found);
            }
        }
        control.advance_parts(out.len() as u64)
    };
    if rayon::current_thread_index().is_some() {
        out.par_chunks_mut(QUERIES).enumerate().try_for_each(part)
    } else {
        out.chunks_mut(QUERIES).enumerate().try_for_each(part)
    }
}

/// [`distances`] and the index of each, the lowest among equals.
pub fn nearest(
    block: &QueryBlock,
    database: &[u8],
    width: usize,
    distances: &mut [u16],
    indices: &mut [u32],
    control: &Control,
) -> Result<()> {
    if is_short(distances.len(), database.len() / width) {
        block.part_nearest(0, database, distances, indices);
        return control.check();
    }
    let part = |(part, (distances, indices)): (usize, (&mut [u16], &mut [u32]))| {
        let first = part * QUERIES;
        let (mut found, mut places) = ([0; QUERIES], [0; QUERIES]);
        for (codes, database) in database.chunks(CODES * width).enumerate() {
            control.check()?;
            if codes == 0 {
                block.part_nearest(first, database, distances, indices);
                continue;
            }
            let (found, places) = (&mut found[..distances.len()], &mut places[..distances.len()]);
            block.part_nearest(first, database, found, places);
            let base = (codes * CODES) as u32;
            let best = distances.iter_mut().zip(indices.iter_mut());
            for ((distance, index), (&found, &place)) in best.zip(found.iter().zip(&*places)) {
                if found < *distance {
                    (*distance, *index) = (found, base + place);
                }
            }
        }
        control.advance_parts(distances.len() as u64)
    };
    if rayon::current_thread_index().is_some() {
        distances.par_chunks_mut(QUERIES).zip(indices.par_chunks_mut(QUERIES)).enumerate().try_for_each(part)
    } else {
        distances.chunks_mut(QUERIES).zip(indices.chunks_mut(QUERIES)).enumerate().try_for_each(part)
    }
}

fn is_short(queries: usize, codes: usize) -> bool {
    queries.saturating_mul(codes) <= SHORT
}

#[cfg(test)]
mod tests {
    use super::super::Scratch;
    use super::*;
    use crate::error::Error;

    /// Codes with many equal distances.
    fn codes(count: usize, seed: usize) -> Vec<u8> {
        (0..2 * count).map(|i| ((i * i + 7 * i * seed) >> 3) as u8).collect()
    }

    #[test]
    fn long_searches_equal_those_of_their_queries_on_any_number_of_threads_and_stop() {
        let (queries, database) = (codes(QUERIES + 33, 1), codes(2 * CODES + 5, 3));
        let block = QueryBlock::new(&queries, 2).unwrap();
        assert!(!is_short(block.len(), 2 * CODES));
        let (mut scratch, mut single, control) = (Scratch::default(), Scratch::default(), Control::new());
        let pool = crate::threads::pool(Some(3)).unwrap();
        let mut both = |control: &Control, work: &mut (dyn FnMut(&mut Scratch, &Control) + Send)| {
            work(&mut scratch, control);
            pool.install(|| work(&mut scratch, control));
        };
        both(&control, &mut |scratch, control| {
            block.nearest(&database, scratch, control).unwrap();
            for (q, code) in queries.chunks(2).enumerate().step_by(7) {
                let one = QueryBlock::new(code, 2).unwrap();
                one.nearest(&database, &mut single, control).unwrap();
                let found = (scratch.distances()[q], scratch.indices()[q]);
                assert_eq!(found, (single.distances()[0], single.indices()[0]), "query {q}");
            }
            let expected = scratch.distances().to_vec();
            block.distances(&database, scratch, control).unwrap();
            assert_eq!(scratch.distances(), expected);
        });
        control.interrupt();
        both(&control, &mut |scratch, control| {
            let stopped = block.nearest(&database, scratch, control);
            assert!(matches!(stopped, Err(Error::Interrupted)));
            assert!(matches!(block.distances(&database, scratch, control), Err(Error::Interrupted)));
        });
    }
}
