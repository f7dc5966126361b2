//! All Hamming distances between two sets of codes.

use rayon::prelude::*;

use super::database::Matrix;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::aligned::Aligned;
use crate::kernels::hamming::{BLOCK, Kernels, to_words, words};

/// Bytes of planes that are made once and compared with a group of queries: they stay in the second-level cache.
const TILE_BYTES: usize = 1 << 16;

/// Queries that share the planes of a tile. More would be fewer tasks than threads in a square problem.
const GROUP: usize = 128;

/// Writes the distance in bits of every query to every code into `out`, a row a query.
///
/// Complexity: O(queries n bits); memory for one tile of planes a thread.
///
/// # Errors
/// [`Error::Shape`] if the code lengths differ or `out` has another size, [`Error::Parameter`] for codes of 2^20
/// bytes or more, [`Error::Interrupted`]. What `out` then holds is not specified.
pub fn hamming_matrix(
    queries: Matrix<'_, u8>,
    database: Matrix<'_, u8>,
    out: &mut [i32],
    control: &Control,
) -> Result<()> {
    compare(Kernels::active()?, queries, database, out, control)
}

fn compare(
    kernels: &Kernels,
    queries: Matrix<'_, u8>,
    database: Matrix<'_, u8>,
    out: &mut [i32],
    control: &Control,
) -> Result<()> {
    let (count, bytes) = (database.rows(), database.columns());
    if queries.columns() != bytes {
        let expected = format!("codes of {bytes} bytes, as the database has");
        return Err(Error::shape("queries", expected, format!("codes of {} bytes", queries.columns())));
    }
    if bytes >= 1 << 20 {
        return Err(Error::parameter("bytes of a code", "below 2^20", bytes));
    }
    if Some(out.len()) != queries.rows().checked_mul(count) {
        let expected = format!("[{}, {count}]", queries.rows());
        return Err(Error::shape("out", expected, format!("{} values", out.len())));
    }
    if out.is_empty() {
        return Ok(());
    }
    let words: Vec<Vec<u64>> = (0..queries.rows()).map(|query| to_words(queries.row(query))).collect();
    let size = self::words(bytes) * BLOCK;
    let tile = (TILE_BYTES / (8 * size)).max(1) * BLOCK;
    // A task is a tile of codes and a group of queries, and owns its pieces of their rows of `out`.
    let mut tasks: Vec<Task<'_>> = Vec::new();
    for (group, rows) in out.chunks_mut(count * GROUP).enumerate() {
        let first = tasks.len();
        tasks.extend((0..count).step_by(tile).map(|code| Task {
            query: group * GROUP,
            code,
            out: Vec::new(),
        }));
        for row in rows.chunks_mut(count) {
            for (task, piece) in tasks[first..].iter_mut().zip(row.chunks_mut(tile)) {
                task.out.push(piece);
            }
        }
    }
    tasks.into_par_iter().with_max_len(1).try_for_each_init(
        || (Aligned::zeros(tile / BLOCK * size), [0; BLOCK]),
        |(planes, distances), task| {
            let codes = task.out[0].len();
            for (block, planes) in (0..codes).step_by(BLOCK).zip(planes.as_mut_slice().chunks_mut(size)) {
                let rows = task.code + block..task.code + codes.min(block + BLOCK);
                kernels.pack(database.slice(rows), bytes, 0, planes);
            }
            for (query, out) in words[task.query..].iter().zip(task.out) {
                for (planes, out) in planes.as_slice().chunks(size).zip(out.chunks_mut(BLOCK)) {
                    // Every distance is below this limit, so all of the block are written.
                    kernels.seek(query, planes, u32::MAX, distances);
                    for (out, distance) in out.iter_mut().zip(&*distances) {
                        *out = *distance as i32;
                    }
                }
                control.advance(codes as u64)?;
            }
            Ok(())
        },
    )
}

/// Some queries with some codes.
struct Task<'a> {
    /// The first of the queries, and of the codes.
    query: usize,
    code: usize,
    /// Their distances: a piece of a row for each of the queries.
    out: Vec<&'a mut [i32]>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::level::Level;

    proptest! {
        #[test]
        fn every_distance_is_counted(
            queries in 0_usize..300, count in 0_usize..400, bytes in prop::sample::select(vec![0, 1, 7, 8, 16, 33, 300]),
            seed: u64,
        ) {
            let values = |length: usize, salt: u64| -> Vec<u8> {
                (0..length as u64).map(|i| ((i ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect()
            };
            let (a, b) = (values(queries * bytes, seed), values(count * bytes, !seed));
            let row = |all: &[u8], i: usize| all[i * bytes..(i + 1) * bytes].to_vec();
            let mut expected = Vec::new();
            for i in 0..queries {
                for j in 0..count {
                    let pairs = row(&a, i).into_iter().zip(row(&b, j));
                    expected.push(pairs.map(|(x, y)| (x ^ y).count_ones() as i32).sum::<i32>());
                }
            }
            for level in Level::available() {
                let mut out = vec![-1; queries * count];
                let (a, b) = (
                    Matrix::new("queries", queries, bytes, &a).unwrap(),
                    Matrix::new("database", count, bytes, &b).unwrap(),
                );
                compare(Kernels::of(level).unwrap(), a, b, &mut out, &Control::new()).unwrap();
                prop_assert_eq!(&out, &expected, "{:?}", level);
            }
        }
    }

    #[test]
    fn wrong_sizes_and_interruption_are_errors() {
        let codes = [0_u8; 64];
        let matrix = |rows, columns| Matrix::new("codes", rows, columns, &codes).unwrap();
        let control = Control::new();
        assert!(hamming_matrix(matrix(8, 8), matrix(4, 16), &mut [0; 32], &control).is_err());
        assert!(hamming_matrix(matrix(8, 8), matrix(8, 8), &mut [0; 63], &control).is_err());
        control.interrupt();
        let stopped = hamming_matrix(matrix(8, 8), matrix(8, 8), &mut [0; 64], &control);
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }
}
