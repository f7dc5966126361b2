//! A whole run: every query and every group of positives in one pass over the results.

use rayon::prelude::*;

use super::ranking::{Positive, Ranking, order};
use super::single::{check_k, official_oracle, oracle};
use crate::control::Control;
use crate::error::{Error, Result};

/// Bit 0 of a positive's groups stands for "all positives", so this many named groups fit.
const MOST_GROUPS: usize = 31;

/// A run of Q queries over a vocabulary of V database ids, and the ground truth.
///
/// Database id v is a positive of query q if `instances[v] == queries[q]`. Groups are subsets of the
/// positives; what a group scores is AP@k with every positive outside it removed from the list, which is not
/// refilled.
#[derive(Clone, Copy, Debug)]
pub struct Judgements<'a> {
    /// [Q + 1]; query q owns results `offsets[q]..offsets[q + 1]`.
    pub offsets: &'a [i64],
    /// Per result: the database id, below V.
    pub rows: &'a [i64],
    /// Per result: the score, finite.
    pub scores: &'a [f64],
    /// Per database id: the instance it is a positive of, or a negative number.
    pub instances: &'a [i32],
    /// Per database id: bit g is set if it belongs to group g.
    pub groups: &'a [u32],
    /// Per query: its instance, 0 or more.
    pub queries: &'a [i32],
    /// [Q, 1 + G]: positives of the query in the database, all and per group.
    pub positives: &'a [i64],
    /// G, at most 31.
    pub group_count: usize,
    /// The cut, at least 1.
    pub k: usize,
}

/// What [`judge`] finds, in the order of the queries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// [Q, 1 + G] AP@k in [0, 1], over all positives and per group; NaN where a query has no positive in a group.
    pub aps: Vec<f64>,
    /// One a query: AP@k after a perfect re-ranking, [`oracle`].
    pub oracles: Vec<f64>,
    /// One a query: the same as published, [`official_oracle`].
    pub official_oracles: Vec<f64>,
    /// One a query: positives among the first k results.
    pub found: Vec<i64>,
}

/// Scores every query against all its positives and against each group of them.
///
/// Time is O(results) plus O(positives found · groups); memory O(positives of a query) a thread.
pub fn judge(input: &Judgements<'_>, control: &Control) -> Result<Scores> {
    check(input)?;
    let columns = input.group_count + 1;
    let per_query: Vec<(Vec<f64>, usize)> = (0..input.queries.len())
        .into_par_iter()
        .with_min_len(8)
        .map(|query| {
            let scored = judge_query(input, query, control)?;
            control.advance(1)?;
            Ok(scored)
        })
        .collect::<Result<_>>()?;
    let mut scores = Scores { aps: Vec::with_capacity(per_query.len() * columns), ..Scores::default() };
    for (query, (aps, found)) in per_query.into_iter().enumerate() {
        let positives = input.positives[query * columns] as usize;
        let kept = input.k.min((input.offsets[query + 1] - input.offsets[query]) as usize);
        scores.aps.extend(aps);
        scores.oracles.push(oracle(found, positives, input.k));
        scores.official_oracles.push(official_oracle(found, kept, positives, input.k));
        scores.found.push(found as i64);
    }
    Ok(scores)
}

fn judge_query(input: &Judgements<'_>, query: usize, control: &Control) -> Result<(Vec<f64>, usize)> {
    let results = input.offsets[query] as usize..input.offsets[query + 1] as usize;
    let (rows, scores) = (&input.rows[results.clone()], &input.scores[results]);
    let order = order("scores", query, scores, control)?;
    let position = |rank: usize| order.as_ref().map_or(rank, |order| order[rank] as usize);
    let mut hits = Vec::new();
    for rank in 0..rows.len() {
        let row = rows[position(rank)];
        let instance =
            usize::try_from(row).ok().and_then(|row| input.instances.get(row)).ok_or_else(|| {
                let vocabulary = input.instances.len();
                Error::parameter(
                    format!("rows: query {query}"),
                    format!("a row from 0 to {vocabulary} - 1"),
                    row,
                )
            })?;
        if *instance == input.queries[query] {
            hits.push(Positive { rank, groups: 1 | input.groups[row as usize] << 1 });
        }
    }
    let columns = input.group_count + 1;
    let positives = &input.positives[query * columns..(query + 1) * columns];
    let ranking = Ranking { score: &|rank| scores[position(rank)], length: rows.len(), positives: &hits };
    let mut aps = Vec::with_capacity(columns);
    let mut found = 0;
    for (column, &count) in positives.iter().enumerate() {
        let listed = hits.iter().filter(|hit| hit.groups >> column & 1 == 1).count();
        let count = usize::try_from(count).ok().filter(|&count| count >= listed).ok_or_else(|| {
            Error::parameter(
                format!("positives: query {query}, column {column}"),
                format!("at least {listed}, the number of positives in the list"),
                count,
            )
        })?;
        let outcome = ranking.outcome(1 << column, count, input.k);
        if column == 0 {
            found = outcome.found;
        }
        aps.push(if column > 0 && count == 0 { f64::NAN } else { outcome.ap });
    }
    Ok((aps, found))
}

fn check(input: &Judgements<'_>) -> Result<()> {
    check_k(input.k)?;
    if input.group_count > MOST_GROUPS {
        return Err(Error::parameter("groups", format!("at most {MOST_GROUPS}"), input.group_count));
    }
    let (queries, results) = (input.queries.len(), input.rows.len());
    let expect = |what: &str, expected: usize, found: usize| {
        if expected == found {
            Ok(())
        } else {
            Err(Error::shape(what, expected.to_string(), found.to_string()))
        }
    };
    expect("offsets", queries + 1, input.offsets.len())?;
    expect("scores", results, input.scores.len())?;
    expect("groups", input.instances.len(), input.groups.len())?;
    expect("positives", queries * (input.group_count + 1), input.positives.len())?;
    if input.offsets[0] != 0 || !input.offsets.is_sorted() || input.offsets[queries] != results as i64 {
        return Err(Error::parameter(
            "offsets",
            format!("numbers that rise from 0 to {results}, the number of results"),
            format!("{} to {}", input.offsets[0], input.offsets[queries]),
        ));
    }
    match input.queries.iter().find(|instance| **instance < 0) {
        Some(instance) => Err(Error::parameter("queries", "instances of 0 or more", instance)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::average_precision;
    use super::*;

    fn example<'a>() -> Judgements<'a> {
        Judgements {
            offsets: &[0, 4, 4],
            rows: &[0, 1, 2, 3],
            scores: &[0.9, 0.8, 0.7, 0.6],
            instances: &[-1, 0, 0, 1],
            groups: &[0, 0b01, 0b10, 0],
            queries: &[0, 1],
            positives: &[3, 1, 2, 1, 0, 1],
            group_count: 2,
            k: 10,
        }
    }

    #[test]
    fn groups_remove_the_other_positives() {
        let scores = judge(&example(), &Control::new()).unwrap();
        let expected = [(1. / 2. + 2. / 3.) / 3., 1. / 2., (1. / 2.) / 2., 0.0];
        for (ap, expected) in scores.aps.iter().zip(expected) {
            assert!((ap - expected).abs() < 1e-12, "{ap} is not {expected}");
        }
        assert!(scores.aps[4].is_nan());
        assert_eq!(scores.found, [2, 0]);
        assert!((scores.oracles[0] - 2. / 3.).abs() < 1e-12 && scores.oracles[1].abs() < 1e-12);
        assert!((scores.official_oracles[0] - 2. / 4. * 10. / 3.).abs() < 1e-12);
    }

    #[test]
    fn bad_input_is_named() {
        let bad = [
            (Judgements { k: 0, ..example() }, "k:"),
            (Judgements { offsets: &[0, 4], ..example() }, "offsets: expected 3"),
            (Judgements { offsets: &[0, 5, 4], ..example() }, "offsets: expected numbers"),
            (Judgements { offsets: &[0, 4, 5], ..example() }, "offsets: expected numbers"),
            (Judgements { offsets: &[-1, 4, 4], ..example() }, "offsets: expected numbers"),
            (Judgements { rows: &[0, 1, 2, 4], ..example() }, "rows: query 0"),
            (Judgements { rows: &[0, 1, 2, -1], ..example() }, "rows: query 0"),
            (Judgements { scores: &[1.0], ..example() }, "scores: expected 4"),
            (Judgements { scores: &[1.0, f64::NAN, 0.0, 0.0], ..example() }, "scores: row 0, column 1"),
            (Judgements { groups: &[0], ..example() }, "groups: expected 4"),
            (Judgements { positives: &[1], ..example() }, "positives: expected 6"),
            (
                Judgements { positives: &[1, 1, 2, 1, 0, 1], ..example() },
                "query 0, column 0: expected at least 2",
            ),
            (
                Judgements { positives: &[3, 1, -1, 1, 0, 1], ..example() },
                "query 0, column 2: expected at least 1",
            ),
            (Judgements { queries: &[0, -1], ..example() }, "queries:"),
            (Judgements { group_count: 32, ..example() }, "groups: expected at most 31"),
        ];
        for (input, expected) in bad {
            let message = judge(&input, &Control::new()).unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        }
    }

    #[test]
    fn stops_when_asked() {
        let control = Control::new();
        control.interrupt();
        assert!(matches!(judge(&example(), &control), Err(Error::Interrupted)));
    }

    proptest! {
        /// Every group equals the single-list function on the list without the other positives.
        #[test]
        fn equals_the_lists_one_by_one(
            list in proptest::collection::vec((0_i8..5, 0_u32..5), 0..30), k in 1_usize..35, more in 0_i64..3
        ) {
            // 0 and 4: not a positive; 1, 2, 3: a positive in group 0, in group 1, in both.
            let kind = |kind: u32| if kind == 4 { 0 } else { kind };
            let scores: Vec<f64> = list.iter().map(|&(score, _)| f64::from(score)).collect();
            let rows: Vec<i64> = (0..list.len() as i64).collect();
            let instances: Vec<i32> = list.iter().map(|&(_, of)| if kind(of) == 0 { -1 } else { 7 }).collect();
            let groups: Vec<u32> = list.iter().map(|&(_, of)| kind(of)).collect();
            let member = |column: usize, of: u32| if column == 0 { of > 0 } else { of >> (column - 1) & 1 == 1 };
            let counts: Vec<i64> = (0..3)
                .map(|column| groups.iter().filter(|&&of| member(column, of)).count() as i64 + more)
                .collect();
            let input = Judgements {
                offsets: &[0, list.len() as i64], rows: &rows, scores: &scores, instances: &instances,
                groups: &groups, queries: &[7], positives: &counts, group_count: 2, k,
            };
            let judged = judge(&input, &Control::new()).unwrap();
            for (column, &count) in counts.iter().enumerate() {
                let kept: Vec<usize> =
                    (0..list.len()).filter(|&at| groups[at] == 0 || member(column, groups[at])).collect();
                let kept_scores: Vec<f64> = kept.iter().map(|&at| scores[at]).collect();
                let relevant: Vec<bool> = kept.iter().map(|&at| member(column, groups[at])).collect();
                let expected = average_precision(&kept_scores, &relevant, count as usize, k, &Control::new()).unwrap();
                let ap = judged.aps[column];
                if column > 0 && count == 0 {
                    prop_assert!(ap.is_nan());
                } else {
                    prop_assert!((ap - expected).abs() < 1e-12, "column {}: {} is not {}", column, ap, expected);
                }
            }
        }
    }
}
