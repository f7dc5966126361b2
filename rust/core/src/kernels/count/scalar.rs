//! The reference, in a form that compilers turn into vector code; the tail of the other levels too.
#![expect(clippy::inline_always, reason = "each level must compile its own copy of these loops")]

use super::BLOCK;

/// See [`super::Count::above`].
#[inline(always)]
pub fn above(scores: &[f32], limits: &[[f32; 2]], counts: &mut [[u64; 2]]) -> bool {
    let mut finite = true;
    for block in scores.chunks(BLOCK) {
        // Where all scores of a block lie on one side of a limit, no second look is needed.
        let [low, high] = extremes(block);
        finite &= low.is_finite() && high.is_finite();
        for (&[least, most], [above, within]) in limits.iter().zip(&mut *counts) {
            if low > most {
                *above += block.len() as u64;
                *within += block.len() as u64;
            } else if high >= least {
                // Two loops: one with two sums is not vectorised half as well.
                *above += u64::from(block.iter().map(|&score| u32::from(score > most)).sum::<u32>());
                *within += u64::from(block.iter().map(|&score| u32::from(score >= least)).sum::<u32>());
            }
        }
    }
    finite
}

/// The smallest and the largest score, compared as integers of the same order: unlike comparisons of floats, a
/// compiler may reorder those. NaN is beyond infinity, so one extreme shows it.
#[inline(always)]
fn extremes(block: &[f32]) -> [f32; 2] {
    let (mut low, mut high) = (i32::MAX, i32::MIN);
    for &score in block {
        let key = flip(score.to_bits() as i32);
        low = low.min(key);
        high = high.max(key);
    }
    [low, high].map(|key| f32::from_bits(flip(key) as u32))
}

/// Sign and magnitude to two's complement, and back.
#[inline(always)]
fn flip(bits: i32) -> i32 {
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}
