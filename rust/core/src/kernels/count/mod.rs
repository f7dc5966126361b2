//! How many of a list of scores lie above each of a few limits.
//!
//! Integers, so every CPU level gives the same: the algorithm is written once, in `scalar.rs`, and the other
//! files compile it for their instruction set.

mod avx2;
mod avx512;
mod scalar;

use crate::error::Result;
use crate::level::{self, Level};

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

    /// Adds to `counts[j]` the number of scores above `limits[j][1]`, and of at least `limits[j][0]`, which is
    /// not larger. Returns whether all scores are finite; if not, the counts mean nothing.
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
