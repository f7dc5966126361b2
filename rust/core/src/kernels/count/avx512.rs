//! Sixteen scores and up to four limits at a time: a score is loaded once for all of them.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;

use super::{BLOCK, first, in_groups, scalar};

const LANES: usize = 16;

/// See [`super::Count::above`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,popcnt")]
pub fn above(scores: &[f32], limits: &[[f32; 2]], counts: &mut [[u64; 2]]) -> bool {
    let (body, tail) = scores.split_at(scores.len() / LANES * LANES);
    let mut finite = scalar::above(tail, limits, counts);
    for block in body.chunks(BLOCK) {
        let (range, good) = extremes(block);
        finite &= good;
        in_groups(block.len(), range, limits, counts, |group, filled| match filled {
            1 => first(group, |limits| count::<1>(block, limits)),
            2 => first(group, |limits| count::<2>(block, limits)),
            3 => first(group, |limits| count::<3>(block, limits)),
            _ => count(block, group),
        });
    }
    finite
}

/// The smallest and the largest score, and whether all are finite. The block is whole registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,popcnt")]
fn extremes(block: &[f32]) -> ([f32; 2], bool) {
    /// NaN of both kinds, and both infinities.
    const WRONG: i32 = 0x01 | 0x80 | 0x08 | 0x10;
    let (mut low, mut high) = (_mm512_set1_ps(f32::INFINITY), _mm512_set1_ps(f32::NEG_INFINITY));
    let (mut lower, mut higher) = (low, high);
    let mut wrong = 0;
    for pair in block.chunks(2 * LANES) {
        // SAFETY: the block is whole registers, so the pair is one or two of them.
        let (a, b) = unsafe {
            (_mm512_loadu_ps(pair.as_ptr()), _mm512_loadu_ps(pair.as_ptr().add(pair.len() - LANES)))
        };
        (low, lower) = (_mm512_min_ps(low, a), _mm512_min_ps(lower, b));
        (high, higher) = (_mm512_max_ps(high, a), _mm512_max_ps(higher, b));
        wrong |= _mm512_fpclass_ps_mask::<WRONG>(a) | _mm512_fpclass_ps_mask::<WRONG>(b);
    }
    let range =
        [_mm512_reduce_min_ps(_mm512_min_ps(low, lower)), _mm512_reduce_max_ps(_mm512_max_ps(high, higher))];
    (range, wrong == 0)
}

/// For each limit the scores above it, and a number that is larger if one is close. The block is whole registers.
///
/// Masks are counted as integers, beside the vector units; and whether a score is close is one comparison more,
/// under the mask of those not above, that is seldom true and needs no count.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,popcnt")]
fn count<const N: usize>(block: &[f32], limits: [[f32; 2]; N]) -> [[u64; 2]; N] {
    let ends = limits.map(|limit| limit.map(|end| _mm512_set1_ps(end)));
    let (mut below, mut close) = ([0_u64; N], [0_u16; N]);
    for pair in block.chunks(2 * LANES) {
        if let Ok(pair) = <&[f32; 2 * LANES]>::try_from(pair) {
            // SAFETY: the pair is two registers long.
            let (a, b) =
                unsafe { (_mm512_loadu_ps(pair.as_ptr()), _mm512_loadu_ps(pair.as_ptr().add(LANES))) };
            for (([least, most], below), close) in ends.iter().zip(&mut below).zip(&mut close) {
                let first = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, *most);
                let second = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(b, *most);
                *close |= _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(first, a, *least)
                    | _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(second, b, *least);
                *below += u64::from(_mm512_kunpackw(first.into(), second.into()).count_ones());
            }
        } else {
            // SAFETY: what is left of whole registers is one.
            let values = unsafe { _mm512_loadu_ps(pair.as_ptr()) };
            for (([least, most], below), close) in ends.iter().zip(&mut below).zip(&mut close) {
                let inside = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(values, *most);
                *close |= _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(inside, values, *least);
                *below += u64::from(inside.count_ones());
            }
        }
    }
    let mut found = [[0; 2]; N];
    for ((found, below), close) in found.iter_mut().zip(below).zip(close) {
        let above = block.len() as u64 - below;
        *found = [above, above + u64::from(close != 0)];
    }
    found
}
