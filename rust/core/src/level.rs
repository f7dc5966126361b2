//! Which instruction set the kernels use.
//!
//! Detected once; `ILIAS_FAST_CPU=scalar|avx2|avx512` pins it for the process, [`pin`] for tests.
//! Kernels ask [`active`] once per call or batch, never per element.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};

/// The environment variable that pins the level.
pub const ENV: &str = "ILIAS_FAST_CPU";

/// CPU levels, from the reference to the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Plain Rust: the reference every other level must agree with.
    Scalar = 0,
    /// AVX2, FMA, F16C and POPCNT.
    Avx2 = 1,
    /// AVX-512 F, BW, VL, DQ, VNNI, VBMI2 and VPOPCNTDQ (with everything AVX2 implies).
    Avx512 = 2,
}

impl Level {
    /// Every level this build knows, reference first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// The name used by `ILIAS_FAST_CPU`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this machine can run the level.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
                    && is_x86_feature_detected!("avx512vbmi2")
                    && is_x86_feature_detected!("avx512vpopcntdq")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The levels this machine can run, reference first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|level| level.is_available()).collect()
    }

    /// The available level of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::available().into_iter().find(|level| level.name() == name).ok_or_else(|| Error::Level {
            found: name.to_owned(),
            available: Self::available().iter().map(|level| level.name()).collect::<Vec<_>>().join(", "),
        })
    }
}

const UNPINNED: u8 = u8::MAX;
static PINNED: AtomicU8 = AtomicU8::new(UNPINNED);

fn from_environment() -> Result<Level> {
    static CHOICE: OnceLock<std::result::Result<Level, String>> = OnceLock::new();
    let choice = CHOICE.get_or_init(|| match std::env::var_os(ENV) {
        Some(name) if !name.is_empty() => {
            let name = name.to_string_lossy().into_owned();
            Level::from_name(&name).map_err(|_| name)
        }
        _ => Ok(*Level::available().last().expect("scalar is always available")),
    });
    match choice {
        Ok(level) => Ok(*level),
        Err(name) => Level::from_name(name),
    }
}

/// The level the kernels use now: the pin, else `ILIAS_FAST_CPU`, else the best available.
pub fn active() -> Result<Level> {
    let pinned = PINNED.load(Ordering::Relaxed);
    Level::ALL.into_iter().find(|level| *level as u8 == pinned).map_or_else(from_environment, Ok)
}

/// Pins the level for the whole process, or takes the pin back. For tests and benchmarks.
pub fn pin(level: Option<Level>) -> Result<()> {
    if let Some(level) = level.filter(|level| !level.is_available()) {
        return Level::from_name(level.name()).map(|_| ());
    }
    PINNED.store(level.map_or(UNPINNED, |level| level as u8), Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_level_names_the_available_ones() {
        let message = Level::from_name("mmx").unwrap_err().to_string();
        assert!(message.contains("\"mmx\"") && message.contains("scalar"), "{message}");
    }

    #[test]
    fn scalar_is_always_available_and_first() {
        assert_eq!(Level::available()[0], Level::Scalar);
    }
}
