//! The algorithm, in a form that compilers turn into vector code; also the reference.

/// Scores counted by one lane before the lanes are folded: far from overflowing a `u32`.
const BLOCK: usize = 1024;

/// See [`super::Count::above`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled once for each level")]
pub fn above(scores: &[f32], limits: &[[f32; 2]], counts: &mut [[u64; 2]]) -> bool {
    let mut widest = 0;
    for block in scores.chunks(BLOCK) {
        // Where all scores of a block lie on one side of a limit, which is most of the time, no second look is needed.
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for &score in block {
            let magnitude = score.to_bits() & 0x7fff_ffff;
            widest = if magnitude > widest { magnitude } else { widest };
            low = if score < low { score } else { low };
            high = if score > high { score } else { high };
        }
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
    widest < f32::INFINITY.to_bits()
}
