//! How many of a list of scores lie above each of a few limits.
//!
//! Integers, so every CPU level gives the same; `scalar.rs` is the reference. Where the scores are read from
//! memory, that is what should take the time: a score is compared with as many limits as registers hold while it
//! is in one, and the next block is fetched meanwhile. Where there are more limits, a first look at a block
//! finds its extremes, and a limit that no score of the block reaches is not looked at.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod blocks;
mod scalar;

use crate::error::Result;
use crate::level::{self, Level};

/// Scores looked at while they are in the first cache, and counted far from overflowing a `u32`.
const BLOCK: usize = 2048;

/// The function of one CPU level, looked up once and used for many lists.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    level: Level,
}

impl Count {
    /// The function of the active level.
    pub fn new() -> Result<Self> {
        Ok(Self { level: level::active()? })
    }

    /// Adds to `counts[j]` the number of scores above `limits[j][1]`, and that of at least `limits[j][0]`, which
    /// is not larger. Returns whether all scores are finite; if not, the counts mean nothing.
    pub fn above(self, scores: &[f32], limits: &[[f32; 2]], counts: &mut [[u64; 2]]) -> bool {
        debug_assert_eq!(limits.len(), counts.len());
        match self.level {
            // SAFETY: a level is only active if this CPU has its features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::above(scores, limits, counts) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::above(scores, limits, counts) },
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => unreachable!("not available on this architecture"),
            Level::Scalar => scalar::above(scores, limits, counts),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn levels() -> impl Iterator<Item = Count> {
        [Level::Scalar, Level::Avx2, Level::Avx512]
            .into_iter()
            .filter(|level| level.is_available())
            .map(|level| Count { level })
    }

    /// For each limit, the scores above it and those of at least its lower end.
    fn obvious(scores: &[f32], limits: &[[f32; 2]]) -> Vec<[u64; 2]> {
        let count = |holds: &dyn Fn(f32) -> bool| scores.iter().filter(|&&score| holds(score)).count() as u64;
        let of = |&[low, high]: &[f32; 2]| [count(&|score| score > high), count(&|score| score >= low)];
        limits.iter().map(of).collect()
    }

    proptest! {
        #[test]
        fn every_level_counts_the_same(
            values in proptest::collection::vec(-6_i8..6, 1..40),
            length in 0_usize..(2 * BLOCK + 40),
            limits in proptest::collection::vec((-7_i8..7, 0_i8..3), 0..11),
            shift in 0_usize..4,
        ) {
            // Few different values: ties everywhere, zeros of both signs among them; any alignment.
            let all: Vec<f32> = (0..length + shift)
                .map(|at| f32::from(values[at % values.len()]) * if at % 3 == 0 { -1.0 } else { 0.5 })
                .collect();
            let scores = &all[shift..];
            let limits: Vec<[f32; 2]> =
                limits.iter().map(|&(low, more)| [f32::from(low), f32::from(low + more)]).collect();
            for count in levels() {
                let mut found = vec![[7; 2]; limits.len()];
                prop_assert!(count.above(scores, &limits, &mut found));
                let expected: Vec<_> = obvious(scores, &limits).iter().map(|pair| pair.map(|count| count + 7)).collect();
                prop_assert_eq!(found, expected, "{:?}", count);
            }
        }

        #[test]
        fn every_level_counts_scores_that_seldom_tie(
            seed in any::<u64>(), length in 0_usize..(3 * BLOCK), limits in 0_usize..12, point in any::<bool>()
        ) {
            let mut state = seed | 1;
            let mut draw = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / 16_777_216.0 - 0.5
            };
            let scores: Vec<f32> = (0..length).map(|_| draw()).collect();
            // Every other limit is one of the scores.
            let limits: Vec<[f32; 2]> = (0..limits)
                .map(|at| if at % 2 == 0 || length == 0 { draw() } else { scores[at * 977 % length] })
                .map(|low| [low, if point { low } else { low + 1e-3 }])
                .collect();
            for count in levels() {
                let mut found = vec![[0; 2]; limits.len()];
                prop_assert!(count.above(&scores, &limits, &mut found));
                prop_assert_eq!(found, obvious(&scores, &limits), "{:?}", count);
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_seen_wherever_it_stands() {
        for count in levels() {
            for wrong in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001)]
            {
                for at in [0, 1, 15, 16, 2047, 2048, 2056, 2062] {
                    let mut scores = vec![0.5; 2063];
                    for limits in [0, 1, 5, 8, 9, 20] {
                        scores[at] = wrong;
                        let (limits, mut counts) = (vec![[0.0; 2]; limits], vec![[0; 2]; limits]);
                        assert!(!count.above(&scores, &limits, &mut counts), "{count:?}, {wrong} at {at}");
                        scores[at] = f32::MAX;
                        assert!(count.above(&scores, &limits, &mut counts), "{count:?}, {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn subnormal_and_huge_scores_keep_their_order() {
        let tiny = f32::from_bits(1);
        let scores: Vec<f32> = [-f32::MAX, -tiny, -0.0, 0.0, tiny, f32::MAX].repeat(8);
        for count in levels() {
            let mut found = [[0; 2]; 3];
            count.above(&scores, &[[0.0; 2], [tiny; 2], [-tiny, f32::MAX]], &mut found);
            assert_eq!(found, [[16, 32], [8, 16], [0, 40]], "{count:?}");
            let mut found = [[0; 2]; 2];
            count.above(&scores, &[[1.0; 2], [-1.0; 2]], &mut found);
            assert_eq!(found, [[8, 8], [40, 40]], "{count:?}");
        }
    }
}
