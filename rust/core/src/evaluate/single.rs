//! One query: AP@k and the oracles.

use super::ranking::{Positive, Ranking, order};
use crate::control::Control;
use crate::error::{Error, Result};

/// Results between two looks at the control.
const PULSE: usize = 1 << 20;

/// ILIAS AP@k of one list; see the [module](super) for the definition.
///
/// `positives` counts the positives in the database, found or not; 0 gives 0. The list may be in any order. Each
/// result is one unit of progress.
pub fn average_precision(
    scores: &[f64],
    relevant: &[bool],
    positives: usize,
    k: usize,
    control: &Control,
) -> Result<f64> {
    if scores.len() != relevant.len() {
        return Err(Error::shape(
            "relevant",
            format!("{} values, as many as scores", scores.len()),
            relevant.len().to_string(),
        ));
    }
    check_k(k)?;
    let listed = relevant.iter().filter(|&&relevant| relevant).count();
    if positives < listed {
        return Err(Error::parameter(
            "positives",
            format!("at least {listed}, the number of relevant results in the list"),
            positives,
        ));
    }
    let order = order("scores", 0, scores, control)?;
    let position = |rank: usize| order.as_ref().map_or(rank, |order| order[rank] as usize);
    let mut hits: Vec<Positive> = Vec::with_capacity(listed);
    for first in (0..scores.len()).step_by(PULSE) {
        let ranks = first..scores.len().min(first + PULSE);
        hits.extend(
            ranks.clone().filter(|&rank| relevant[position(rank)]).map(|rank| Positive { rank, groups: 1 }),
        );
        control.advance(ranks.len() as u64)?;
    }
    let ranking = Ranking { score: &|rank| scores[position(rank)], length: scores.len(), positives: &hits };
    Ok(ranking.outcome(1, positives, k).ap)
}

/// AP@k after a perfect re-ranking of the first k results: found / min(k, positives); 0 without positives.
///
/// `found` counts the positives among the first k results.
pub fn oracle(found: usize, positives: usize, k: usize) -> f64 {
    let denominator = k.min(positives);
    if denominator == 0 { 0.0 } else { found as f64 / denominator as f64 }
}

/// The oracle as the official ILIAS evaluator computes it: found / kept · k / positives.
///
/// `kept` is the number of results inside the cut. For lists shorter than k this exceeds [`oracle`] (and can
/// exceed 1); for more than k positives it can lie below the AP.
pub fn official_oracle(found: usize, kept: usize, positives: usize, k: usize) -> f64 {
    if found == 0 { 0.0 } else { found as f64 / kept as f64 * k as f64 / positives as f64 }
}

/// k is at least 1.
pub(super) fn check_k(k: usize) -> Result<()> {
    if k == 0 { Err(Error::parameter("k", "1 or more", k)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const P: bool = true;
    const N: bool = false;

    #[track_caller]
    fn assert_ap(scores: &[f64], relevant: &[bool], positives: usize, k: usize, expected: f64) {
        let ap = average_precision(scores, relevant, positives, k, &Control::new()).unwrap();
        assert!((ap - expected).abs() < 1e-12, "{ap} is not {expected}");
    }

    #[test]
    fn without_ties_it_is_the_rectangle_rule() {
        assert_ap(&[5., 4., 3., 2., 1.], &[P, N, P, N, P], 3, 5, (1. + 2. / 3. + 3. / 5.) / 3.);
        assert_ap(&[1., 2., 3., 4., 5.], &[P, N, P, N, P], 3, 5, (1. + 2. / 3. + 3. / 5.) / 3.);
    }

    #[test]
    fn equal_scores_are_one_block() {
        assert_ap(&[9., 8., 8., 8., 4., 3.], &[P, N, P, N, P, N], 3, 6, (1. + 2. / 4. + 3. / 5.) / 3.);
        assert_ap(&[5.; 4], &[N, P, P, P], 3, 6, 3. / 4.);
        assert_ap(&[0.0, -0.0], &[P, N], 1, 6, 0.5);
    }

    #[test]
    fn a_tie_at_the_cut_is_broken_by_input_order() {
        assert_ap(&[2., 1., 1., 1.], &[N, P, N, P], 2, 2, 0.5 / 2.);
        assert_ap(&[2., 1., 1., 1.], &[N, N, P, P], 2, 2, 0.0);
    }

    #[test]
    fn the_denominator_is_the_smaller_of_k_and_positives() {
        assert_ap(&[3., 2., 1.], &[P, P, P], 10, 3, 1.0);
        assert_ap(&[3., 2., 1.], &[P, P, P], 10, 20, 0.3);
        assert_ap(&[], &[], 4, 10, 0.0);
        assert_ap(&[1.], &[N], 0, 10, 0.0);
    }

    #[test]
    fn bad_input_is_named() {
        let message = |result: Result<f64>| result.unwrap_err().to_string();
        assert!(
            message(average_precision(&[1.], &[], 1, 1, &Control::new()))
                .contains("relevant: expected 1 values")
        );
        assert!(
            message(average_precision(&[1.], &[P], 1, 0, &Control::new()))
                .contains("k: expected 1 or more, found 0")
        );
        assert!(message(average_precision(&[1.], &[P], 0, 1, &Control::new())).contains("at least 1"));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(
                message(average_precision(&[1., bad], &[P, N], 1, 1, &Control::new())).contains("column 1")
            );
        }
    }

    #[test]
    fn oracles() {
        assert!((oracle(3, 4, 3) - 1.0).abs() < 1e-15);
        assert!((official_oracle(3, 3, 4, 3) - 0.75).abs() < 1e-15);
        assert!((official_oracle(3, 4, 3, 6) - 1.5).abs() < 1e-15);
        assert!(oracle(0, 0, 5).abs() < 1e-15);
    }

    /// The definition, word by word: sort, cut, walk the distinct scores.
    fn reference(scores: &[f64], relevant: &[bool], positives: usize, k: usize) -> f64 {
        let mut list: Vec<(f64, bool)> = scores.iter().copied().zip(relevant.iter().copied()).collect();
        list.sort_by(|a, b| b.0.total_cmp(&a.0));
        list.truncate(k);
        let mut sum = 0.0;
        for (at, &(score, _)) in list.iter().enumerate() {
            if list.get(at + 1).is_none_or(|next| next.0 < score) {
                let (n, tp) = (at + 1, list[..=at].iter().filter(|entry| entry.1).count());
                let d = list.iter().filter(|entry| entry.1 && entry.0.total_cmp(&score).is_eq()).count();
                sum += (d * tp) as f64 / n as f64;
            }
        }
        if positives == 0 { 0.0 } else { sum / k.min(positives) as f64 }
    }

    proptest! {
        #[test]
        fn equals_the_definition(
            list in proptest::collection::vec((0_i8..6, any::<bool>()), 0..40), k in 1_usize..50, more in 0_usize..5
        ) {
            let scores: Vec<f64> = list.iter().map(|&(score, _)| f64::from(score)).collect();
            let relevant: Vec<bool> = list.iter().map(|&(_, relevant)| relevant).collect();
            let positives = relevant.iter().filter(|&&relevant| relevant).count() + more;
            let ap = average_precision(&scores, &relevant, positives, k, &Control::new()).unwrap();
            prop_assert!((ap - reference(&scores, &relevant, positives, k)).abs() < 1e-12);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&ap));
        }
    }
}
