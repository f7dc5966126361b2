//! What the machine could do at most: loops of nothing but multiply-adds, int8 products, or reads.
//!
//! Benchmarks run them beside every timing, because the speed of a shared machine changes from minute to
//! minute; a time means something only as a share of the peak of that moment.

use crate::error::Result;
use crate::level::{self, Level};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

/// The peak loops of one level. Having one proves that the machine can run it.
#[derive(Debug)]
pub struct Kernels {
    level: Level,
    fma: unsafe fn(u64) -> f32,
    fma_per_step: u64,
    int8: unsafe fn(u64) -> i32,
    int8_per_step: u64,
    read: unsafe fn(&[u8]) -> u64,
}

/// One line a level.
static TABLE: &[Kernels] = &[
    Kernels {
        level: Level::Scalar,
        fma: scalar::fma,
        fma_per_step: 2 * 16,
        int8: scalar::int8,
        int8_per_step: 2 * 64,
        read: scalar::read,
    },
    #[cfg(target_arch = "x86_64")]
    Kernels {
        level: Level::Avx2,
        fma: avx2::fma,
        fma_per_step: 2 * 8 * 12,
        int8: avx2::int8,
        int8_per_step: 2 * 32 * 12,
        read: avx2::read,
    },
    #[cfg(target_arch = "x86_64")]
    Kernels {
        level: Level::Avx512,
        fma: avx512::fma,
        fma_per_step: 2 * 16 * 12,
        int8: avx512::int8,
        int8_per_step: 2 * 64 * 12,
        read: avx512::read,
    },
];

impl Kernels {
    /// The loops of the active level.
    pub fn active() -> Result<&'static Self> {
        let level = level::active()?;
        Ok(TABLE.iter().find(|kernels| kernels.level == level).unwrap_or(&TABLE[0]))
    }

    /// Runs `steps` steps of float32 multiply-adds in registers; the number of operations.
    pub fn fma(&self, steps: u64) -> u64 {
        // SAFETY: a `Kernels` is only handed out where its level is available.
        std::hint::black_box(unsafe { (self.fma)(steps) });
        steps * self.fma_per_step
    }

    /// Runs `steps` steps of int8 products summed in int32, in registers; the number of operations.
    pub fn int8(&self, steps: u64) -> u64 {
        // SAFETY: as above.
        std::hint::black_box(unsafe { (self.int8)(steps) });
        steps * self.int8_per_step
    }

    /// Reads memory once, front to back; the number of bytes.
    pub fn read(&self, bytes: &[u8]) -> u64 {
        // SAFETY: as above.
        std::hint::black_box(unsafe { (self.read)(bytes) });
        bytes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_reads_everything() {
        for kernels in TABLE.iter().filter(|kernels| kernels.level.is_available()) {
            for length in [0, 1, 63, 64, 511, 512, 513, 5000] {
                let bytes: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
                // SAFETY: the level is available.
                let found = unsafe { (kernels.read)(&bytes) };
                assert_eq!(found, scalar::read(&bytes), "{:?}, {length} bytes", kernels.level);
            }
            assert_eq!(kernels.fma(10), 10 * kernels.fma_per_step);
            assert_eq!(kernels.int8(10), 10 * kernels.int8_per_step);
        }
    }
}
