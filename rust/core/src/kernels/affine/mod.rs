//! Tiles of `A x + b`: rows times a panel of outputs, in an order of operations that no level changes.
//!
//! Every output is one chain of fused multiply-adds, `s = fma(x_k, a_k, s)` for `k = 0, 1, ...`, that starts at its
//! bias. Outputs lie in the lanes, so that no level ever adds lanes to each other: **all levels give the same bits**,
//! and so do all shapes of tiles. The error is that of any recursive sum: with `u = 2^-24` and `d` terms,
//! `|s - exact| <= gamma(d + 1) (|b| + sum |a_k x_k|)`, `gamma(m) = m u / (1 - m u)`.
//!
//! A panel holds the weights of 32 outputs transposed, `[d][32]`; the row-major rows are the broadcast operand. A tile
//! is 12 rows by 32 outputs: 24 accumulators of AVX-512, or four passes of 12 accumulators of AVX2.

use crate::error::Result;
use crate::level::{self, Level};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

pub use super::tiles::PANEL;
/// Rows in a tile.
pub const TILE: usize = 12;

/// The arguments of a tile.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// 12 rows, `stride` apart.
    pub rows: &'a [f32],
    /// Distance of two rows, at least the depth.
    pub stride: usize,
    /// `[depth][32]`.
    pub panel: &'a [f32],
    /// Of each output.
    pub bias: &'a [f32; PANEL],
}

/// The kernels of one level. Having one proves that the machine can run it.
#[derive(Debug)]
pub struct Kernels {
    level: Level,
    tile: unsafe fn(Operands<'_>, &mut [f32], usize),
}

/// One line a level.
static TABLE: &[Kernels] = &[
    Kernels { level: Level::Scalar, tile: scalar::tile },
    #[cfg(target_arch = "x86_64")]
    Kernels { level: Level::Avx2, tile: avx2::tile },
    #[cfg(target_arch = "x86_64")]
    Kernels { level: Level::Avx512, tile: avx512::tile },
];

impl Kernels {
    /// The kernels of the active level.
    pub fn active() -> Result<&'static Self> {
        Ok(Self::of(level::active()?).unwrap_or(&TABLE[0]))
    }

    /// The kernels of `level`, if this machine can run them.
    pub fn of(level: Level) -> Option<&'static Self> {
        TABLE.iter().find(|kernels| kernels.level == level && level.is_available())
    }

    /// Writes 12 rows of 32 outputs, `out_stride` apart, to `out`.
    ///
    /// # Panics
    /// If rows or places are too few for 12.
    pub fn tile(&self, operands: Operands<'_>, out: &mut [f32], out_stride: usize) {
        let depth = operands.panel.len() / PANEL;
        assert!(
            operands.stride >= depth && operands.rows.len() >= (TILE - 1) * operands.stride + depth,
            "a tile needs 12 rows"
        );
        assert!(out_stride >= PANEL && out.len() >= (TILE - 1) * out_stride + PANEL, "places for 12 rows");
        // SAFETY: the level is available, and rows, panel and places are as long as the kernel reads and writes.
        unsafe { (self.tile)(operands, out, out_stride) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(length: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let size = 2.0_f32.powi((state >> 20) as i32 % 40 - 20);
                ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * size
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_level_gives_the_bits_of_the_definition(depth in 0_usize..70, extra in 0_usize..5, seed: u64) {
            let stride = depth + extra;
            let (rows, panel) = (numbers(stride * TILE, seed), numbers(depth * PANEL, seed ^ 5));
            let bias: [f32; PANEL] = numbers(PANEL, seed ^ 9).try_into().unwrap();
            let out_stride = PANEL + extra;
            for level in Level::available() {
                let mut out = vec![7.0; out_stride * TILE];
                let operands = Operands { rows: &rows, stride, panel: &panel, bias: &bias };
                Kernels::of(level).unwrap().tile(operands, &mut out, out_stride);
                for i in 0..TILE {
                    for j in 0..PANEL {
                        let expected = (0..depth)
                            .fold(bias[j], |sum, k| rows[i * stride + k].mul_add(panel[k * PANEL + j], sum));
                        prop_assert_eq!(out[i * out_stride + j].to_bits(), expected.to_bits(), "{:?}", level);
                    }
                    let beyond = &out[i * out_stride + PANEL..(i + 1) * out_stride];
                    prop_assert!(beyond.iter().all(|x| x.to_bits() == 7.0_f32.to_bits()));
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "12 rows")]
    fn too_few_rows_are_refused() {
        let operands = Operands { rows: &[0.0; 23], stride: 2, panel: &[0.0; 64], bias: &[0.0; PANEL] };
        Kernels::active().unwrap().tile(operands, &mut [0.0; TILE * PANEL], PANEL);
    }
}
