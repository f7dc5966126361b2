//! The algorithm, in a form that compilers turn into vector code; also the reference.

/// Scores counted by one lane before the lanes are folded: far from overflowing a `u32`.
const BLOCK: usize = 1024;

/// Scores compared side by side.
const LANES: usize = 16;

/// See [`super::Count::above`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled once for each level")]
pub fn above(scores: &[f32], limits: &[[f32; 2]], counts: &mut [[u64; 2]]) -> bool {
    let mut widest = [0; LANES];
    for block in scores.chunks(BLOCK) {
        // Where all scores of a block lie on one side of a limit, which is most of the time, no second look is
        // needed. In lanes: a compiler may not reorder comparisons of floats.
        let (mut lows, mut highs) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let (whole, rest) = block.as_chunks::<LANES>();
        let mut padded = [rest.first().copied().unwrap_or(block[0]); LANES];
        padded[..rest.len()].copy_from_slice(rest);
        for scores in whole.iter().chain([&padded]) {
            for lane in 0..LANES {
                let score = scores[lane];
                widest[lane] = widest[lane].max(score.to_bits() & 0x7fff_ffff);
                lows[lane] = if score < lows[lane] { score } else { lows[lane] };
                highs[lane] = if score > highs[lane] { score } else { highs[lane] };
            }
        }
        let low = lows.into_iter().fold(f32::INFINITY, f32::min);
        let high = highs.into_iter().fold(f32::NEG_INFINITY, f32::max);
        for (&[least, most], count) in limits.iter().zip(&mut *counts) {
            if high < least {
                continue;
            }
            if low > most {
                count[0] += block.len() as u64;
                count[1] += block.len() as u64;
                continue;
            }
            let (mut above, mut within) = (0_u32, 0_u32);
            for &score in block {
                above += u32::from(score > most);
                within += u32::from(score >= least);
            }
            count[0] += u64::from(above);
            count[1] += u64::from(within);
        }
    }
    widest.into_iter().all(|magnitude| magnitude < f32::INFINITY.to_bits())
}
