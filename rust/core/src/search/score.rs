//! The best of given rows by canonical score: how a screen of somebody else's making is settled.

use rayon::prelude::*;

use super::database::{Database, Matrix};
use super::element::Element;
use super::screen::Problem;
use super::select::{Best, Rank};
use super::topk::TopK;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::prefetch::prefetch;

/// Pairs that a thread takes at a time.
const PIECE: usize = 256;

/// How many pairs ahead the rows are fetched.
const AHEAD: usize = 4;

/// The best `k` of the rows `rows[offsets[q]..offsets[q + 1]]` for each query `q`, as [`super::topk`] orders them.
///
/// Results a query: `k`, or the largest number of rows a query has if that is smaller. What a query lacks is -inf,
/// row -1. A row that is named twice is found twice.
///
/// # Errors
/// As [`score_rows`], and [`Error::Parameter`] for `k = 0`.
pub fn best_rows<T: Element>(
    queries: Matrix<'_, f32>,
    database: &Database<'_, T>,
    offsets: &[i64],
    rows: &[i64],
    k: usize,
    control: &Control,
) -> Result<TopK> {
    if k == 0 {
        return Err(Error::parameter("k", "at least 1", 0));
    }
    let scores = score_rows(queries, database, offsets, rows, control)?;
    let longest = offsets.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max().unwrap_or(0);
    let k = k.min(longest);
    let mut found = TopK {
        k,
        scores: vec![f32::NEG_INFINITY; k * queries.rows()],
        indices: vec![-1; k * queries.rows()],
    };
    if k > 0 {
        let places = found.scores.par_chunks_mut(k).zip(found.indices.par_chunks_mut(k));
        places.zip(offsets.par_windows(2)).for_each(|((best_scores, best_rows), ends)| {
            let pairs = ends[0] as usize..ends[1] as usize;
            let mut best = Best::new(k, Rank::LAST);
            best.extend(pairs.map(|pair| (Rank::of(scores[pair]), rows[pair] as usize)));
            for ((score, row), (rank, found)) in best_scores.iter_mut().zip(best_rows).zip(best.finish()) {
                (*score, *row) = (rank.score(), found as i64);
            }
        });
    }
    Ok(found)
}

/// The canonical scores of query `q` and the rows `rows[offsets[q]..offsets[q + 1]]`, for each `q`.
///
/// # Errors
/// [`Error::Shape`] if the columns differ, or there is not one range a query; [`Error::Parameter`] for offsets
/// that do not cover the rows in order, or a row that does not exist; [`Error::NonFinite`] for a query or one of
/// the rows; [`Error::Interrupted`].
fn score_rows<T: Element>(
    queries: Matrix<'_, f32>,
    database: &Database<'_, T>,
    offsets: &[i64],
    rows: &[i64],
    control: &Control,
) -> Result<Vec<f32>> {
    if queries.columns() != database.columns() {
        let expected = format!("{} columns, as the database has", database.columns());
        return Err(Error::shape("queries", expected, format!("{} columns", queries.columns())));
    }
    if offsets.len() != queries.rows() + 1 {
        let expected = format!("{} values, one more than there are queries", queries.rows() + 1);
        return Err(Error::shape("offsets", expected, format!("{} values", offsets.len())));
    }
    let ascending = offsets.is_sorted() && offsets[0] == 0;
    if !ascending || offsets[queries.rows()] != rows.len() as i64 {
        let expected = format!("numbers that ascend from 0 to the number of rows, {}", rows.len());
        return Err(Error::parameter("offsets", expected, "others"));
    }
    let existing = 0..database.rows() as i64;
    if let Some(&row) = rows.iter().find(|row| !existing.contains(row)) {
        return Err(Error::parameter("rows", format!("rows below {}", database.rows()), row));
    }
    let problem = Problem::new(queries, database, 1, control)?;
    let mut scores = vec![0.0; rows.len()];
    scores.par_chunks_mut(PIECE).zip(rows.par_chunks(PIECE)).enumerate().try_for_each(
        |(piece, (scores, rows))| {
            control.advance(rows.len() as u64)?;
            let first = piece * PIECE;
            let mut query = offsets.partition_point(|&offset| offset <= first as i64) - 1;
            for (at, (score, &row)) in scores.iter_mut().zip(rows).enumerate() {
                while offsets[query + 1] <= (first + at) as i64 {
                    query += 1;
                }
                if let Some(&soon) = rows.get(at + AHEAD) {
                    prefetch(database.row(soon as usize));
                }
                *score = problem.score(query, row as usize);
                // A value that is not finite makes the sum infinite or NaN; values that are finite may, too.
                if !score.is_finite()
                    && !database.row(row as usize).iter().all(|value| value.to_f64().is_finite())
                {
                    return Err(problem.non_finite(row as usize));
                }
            }
            Ok(())
        },
    )?;
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_pair_gets_its_score() {
        let values: Vec<f16> = (0..40).map(|value| f16::from_f32(value as f32 - 7.0)).collect();
        let rows = Matrix::new("rows", 20, 2, &values).unwrap();
        let database = Database::new(2, vec![rows], None).unwrap();
        let queries = Matrix::new("queries", 3, 2, &[1.0_f32, 0.0, 0.0, 1.0, 0.5, 0.5]).unwrap();
        let score =
            |offsets: &[i64], rows: &[i64]| score_rows(queries, &database, offsets, rows, &Control::new());
        assert_eq!(score(&[0, 2, 2, 4], &[3, 0, 19, 3]).unwrap(), [-1.0, -7.0, 31.5, -0.5]);
        let best = |k| best_rows(queries, &database, &[0, 4, 4, 6], &[3, 0, 19, 7, 3, 3], k, &Control::new());
        let found = best(3).unwrap();
        assert_eq!((found.k, &found.indices[..]), (3, &[19, 7, 3, -1, -1, -1, 3, 3, -1][..]));
        assert_eq!(found.scores[..4], [31.0, 7.0, -1.0, f32::NEG_INFINITY]);
        assert_eq!((best(9).unwrap().k, best(1).unwrap().indices), (4, vec![19, -1, 3]));
        assert!(best(0).is_err());
        assert_eq!(best_rows(queries, &database, &[0; 4], &[], 2, &Control::new()).unwrap(), TopK::default());
        for value in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN] {
            for query in [[0.0_f32, 0.0], [1.0, 0.0], [0.0, -1.0]] {
                let values = [f16::ONE, value, f16::ONE, f16::ONE];
                let rows = Matrix::new("rows", 2, 2, &values).unwrap();
                let database = Database::new(2, vec![rows], None).unwrap();
                let queries = Matrix::new("queries", 1, 2, &query).unwrap();
                let best = |row| best_rows(queries, &database, &[0, 1], &[row], 1, &Control::new());
                assert!(
                    matches!(best(0), Err(Error::NonFinite { row: 0, column: 1, .. })),
                    "{value} {query:?}"
                );
                assert!(best(1).is_ok());
            }
        }
        let many: Vec<i64> = (0..1000).map(|at| at % 20).collect();
        let found = score(&[0, 300, 600, 1000], &many).unwrap();
        for (at, &row) in many.iter().enumerate() {
            let x = row as f32 * 2.0 - 7.0;
            let expected = [x, x + 1.0, x + 0.5][usize::from(at >= 300) + usize::from(at >= 600)];
            assert!((found[at] - expected).abs() < 1e-6, "{at}");
        }
        assert!(score(&[0, 0, 0], &[]).is_err());
        assert!(score(&[0, 1, 0, 1], &[0]).is_err());
        assert!(score(&[0, 0, 0, 2], &[0]).is_err());
        assert!(score(&[0, 0, 0, 1], &[20]).is_err());
        assert!(score(&[0, 0, 0, 1], &[-1]).is_err());
    }
}
