//! Average precision at k, as the field's protocols define it; one named function per convention.
//!
//! | function | convention |
//! |---|---|
//! | [`average_precision`] | ILIAS AP@k of one ranked list |
//! | [`oracle`], [`official_oracle`] | AP@k after a perfect re-ranking, as meant and as published |
//! | [`count_above`] | streaming mAP: the distractors that score above each positive |
//! | [`judge()`] | all of that for every query of a run and every group of positives, in one pass |
//!
//! # ILIAS AP@k
//!
//! Results are ordered by score, descending; equal scores keep the order of the input, which matters only
//! where they straddle the cut. The list is cut to its first k results. Equal scores inside the cut form one
//! block, whose precision is taken at the block's end:
//!
//! AP@k = Σ over blocks of d · tp / n, divided by min(k, positives),
//!
//! where d is the number of positives in the block and tp, n are the positives and results up to its end.
//! This equals scikit-learn's `average_precision_score` of the cut list times (positives in it) /
//! min(k, positives). Sums are float64; d · tp and n are exact.

mod judge;
mod ranking;
mod single;
mod streaming;

pub use judge::{Judgements, Scores, judge};
pub use single::{average_precision, official_oracle, oracle};
pub use streaming::{Above, Block, count_above};
