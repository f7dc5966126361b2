//! Streaming mAP: how many scores of a block lie above those of the positives, how many are equal, and which are
//! too close to tell.

use std::ops::Range;

use rayon::prelude::*;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::count::Count;

/// Scores of Q queries against n rows, and the limits they are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// [Q, n], row-major.
    pub scores: &'a [f32],
    /// n.
    pub width: usize,
    /// [Q + 1]; query q owns limits `offsets[q]..offsets[q + 1]`.
    pub offsets: &'a [i64],
    /// Per limit: scores of at least this are close, ...
    pub low: &'a [f32],
    /// ... up to this, and above beyond it; not smaller than `low`.
    pub high: &'a [f32],
}

/// What [`count_above`] finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Above {
    /// Per limit: the scores above it.
    pub above: Vec<i64>,
    /// Per limit: the scores close to it. Where `low` equals `high`, these are its ties.
    pub near: Vec<i64>,
    /// (query, column) of every score that is close to a limit of its query whose `low` is below its `high`,
    /// ascending.
    pub close: Vec<(i64, i64)>,
}

/// Counts the scores above every limit of their query, in some columns of a block.
///
/// `columns` picks a range, and of it those that `members` lists (ascending), if given. Reads each score once
/// from memory; time grows with the number of limits of a query too, but not when all scores lie on one side.
pub fn count_above(
    block: &Block<'_>,
    columns: Range<usize>,
    members: Option<&[i64]>,
    control: &Control,
) -> Result<Above> {
    check(block, &columns, members)?;
    let queries = block.offsets.len() - 1;
    let count = Count::new()?;
    let found: Vec<Above> = (0..queries)
        .into_par_iter()
        .with_min_len(8)
        .map_init(Vec::new, |gathered: &mut Vec<f32>, query| {
            let row = &block.scores[query * block.width..(query + 1) * block.width];
            let scores = match members {
                None => &row[columns.clone()],
                Some(members) => {
                    gathered.clear();
                    gathered.extend(members.iter().map(|&column| row[column as usize]));
                    gathered
                }
            };
            let own = block.offsets[query] as usize..block.offsets[query + 1] as usize;
            let limits: Vec<[f32; 2]> = block.low[own.clone()]
                .iter()
                .zip(&block.high[own])
                .map(|(&low, &high)| [low, high])
                .collect();
            let mut counts = vec![[0_u64; 2]; limits.len()];
            let mut finite = true;
            for scores in scores.chunks(part(limits.len())) {
                control.check()?;
                finite &= count.above(scores, &limits, &mut counts);
            }
            if !finite {
                let wrong = scores.iter().position(|score| !score.is_finite()).unwrap_or_default();
                let column = members.map_or(columns.start + wrong, |list| list[wrong] as usize);
                return Err(Error::NonFinite {
                    what: "scores".into(),
                    row: query,
                    column,
                    value: scores[wrong],
                });
            }
            let mut close = Vec::new();
            let unsure: Vec<[f32; 2]> = limits
                .iter()
                .zip(&counts)
                .filter(|([low, high], [above, within])| low < high && above < within)
                .map(|(&limit, _)| limit)
                .collect();
            if !unsure.is_empty() {
                let part = part(unsure.len());
                for (position, &score) in scores.iter().enumerate() {
                    if position % part == 0 {
                        control.check()?;
                    }
                    if unsure.iter().any(|&[low, high]| low <= score && score <= high) {
                        let column = members.map_or((columns.start + position) as i64, |list| list[position]);
                        close.push((query as i64, column));
                    }
                }
            }
            control.advance(1)?;
            Ok(Above {
                above: counts.iter().map(|&[above, _]| above as i64).collect(),
                near: counts.iter().map(|&[above, within]| (within - above) as i64).collect(),
                close,
            })
        })
        .collect::<Result<_>>()?;
    let mut result = Above::default();
    for own in found {
        result.above.extend(own.above);
        result.near.extend(own.near);
        result.close.extend(own.close);
    }
    Ok(result)
}

/// Scores that are compared with so many limits between two looks at the control; whole blocks of the kernel.
fn part(limits: usize) -> usize {
    ((1 << 26) / limits.max(1)).next_multiple_of(1 << 11)
}

fn check(block: &Block<'_>, columns: &Range<usize>, members: Option<&[i64]>) -> Result<()> {
    let limits = block.low.len();
    let queries = block.offsets.len().saturating_sub(1);
    if block.offsets.first() != Some(&0)
        || !block.offsets.is_sorted()
        || block.offsets[queries] != limits as i64
        || block.high.len() != limits
    {
        let found = format!("{:?} and {}", block.offsets.last(), block.high.len());
        return Err(Error::shape("limits", format!("{limits}, as the last offset says"), found));
    }
    if block.scores.len() != queries * block.width || columns.start > columns.end || columns.end > block.width
    {
        return Err(Error::shape(
            "scores",
            format!("{queries} rows with the columns {columns:?}"),
            format!("{} scores in rows of {}", block.scores.len(), block.width),
        ));
    }
    if let Some(members) = members {
        let inside = |&column: &i64| usize::try_from(column).is_ok_and(|column| columns.contains(&column));
        if let Some(column) = members.iter().find(|column| !inside(column)) {
            return Err(Error::parameter("members", format!("columns in {columns:?}"), column));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_the_obvious_count(
            scores in proptest::collection::vec(-4_i8..4, 0..60),
            limits in proptest::collection::vec((-4_i8..4, 0_i8..2), 0..5),
            start in 0_usize..8, picked in any::<bool>()
        ) {
            let width = scores.len() / 2;
            let scores: Vec<f32> = scores[..2 * width].iter().map(|&score| f32::from(score)).collect();
            let columns = start.min(width)..width;
            let members: Vec<i64> = columns.clone().filter(|column| column % 3 != 1).map(|column| column as i64).collect();
            let low: Vec<f32> = limits.iter().map(|&(low, _)| f32::from(low)).collect();
            let high: Vec<f32> = limits.iter().map(|&(low, more)| f32::from(low + more)).collect();
            let cut = limits.len() / 2;
            let offsets = [0, cut as i64, limits.len() as i64];
            let block = Block { scores: &scores, width, offsets: &offsets, low: &low, high: &high };
            let found = count_above(&block, columns.clone(), picked.then_some(&members), &Control::new()).unwrap();
            let mut close = Vec::new();
            let (mut above, mut near) = (vec![0; limits.len()], vec![0; limits.len()]);
            for query in 0..2 {
                let own = offsets[query] as usize..offsets[query + 1] as usize;
                for column in columns.clone().filter(|&column| !picked || members.contains(&(column as i64))) {
                    let score = scores[query * width + column];
                    let is_near = |limit: usize| low[limit] <= score && score <= high[limit];
                    own.clone().for_each(|limit| above[limit] += i64::from(score > high[limit]));
                    own.clone().for_each(|limit| near[limit] += i64::from(is_near(limit)));
                    if own.clone().any(|limit| low[limit] < high[limit] && is_near(limit)) {
                        close.push((query as i64, column as i64));
                    }
                }
            }
            prop_assert_eq!(found, Above { above, near, close });
        }
    }

    #[test]
    fn bad_input_is_named() {
        let good = Block { scores: &[1.0, 2.0], width: 2, offsets: &[0, 1], low: &[0.0], high: &[0.0] };
        let run = |block: &Block<'_>, columns, members| {
            count_above(block, columns, members, &Control::new()).map_err(|cause| cause.to_string())
        };
        assert_eq!(run(&good, 0..2, None).unwrap().above, [2]);
        for (block, columns, members, expected) in [
            (Block { offsets: &[0, 2], ..good }, 0..2, None, "limits: expected 1"),
            (Block { offsets: &[], ..good }, 0..2, None, "limits: expected 1"),
            (Block { high: &[], ..good }, 0..2, None, "limits: expected 1"),
            (Block { width: 1, ..good }, 0..1, None, "scores: expected 1 rows"),
            (good, 0..3, None, "scores: expected 1 rows"),
            (good, 0..1, Some(&[1_i64][..]), "members: expected columns"),
            (good, 0..1, Some(&[-1][..]), "members: expected columns"),
            (Block { scores: &[1.0, f32::NAN], ..good }, 0..2, None, "scores: row 0, column 1 is NaN"),
        ] {
            let message = run(&block, columns, members).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
        assert!(run(&Block { scores: &[1.0, f32::INFINITY], ..good }, 0..2, None).is_err());
    }
}
