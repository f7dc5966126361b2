//! The machine's peak of the moment, for benchmarks; see [`kernels::peak`](crate::kernels::peak).

use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::control::Control;
use crate::error::Result;
use crate::kernels::peak::Kernels;

/// Operations or bytes a second, over all threads of the current pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Float32 multiplications and additions.
    pub fma: f64,
    /// Int8 multiplications and additions into int32.
    pub int8: f64,
    /// Bytes read from the given memory.
    pub read: f64,
}

/// Steps between two looks at the clock.
const STEPS: u64 = 20_000;

/// Bytes a thread takes at a time.
const PIECE: usize = 1 << 20;

/// Measures each peak for about `time`, at the active level; `memory` is read over and over.
pub fn calibrate(memory: &[u8], time: Duration, control: &Control) -> Result<Peak> {
    let kernels = Kernels::active()?;
    let rate = |work: &(dyn Fn() -> u64 + Sync)| -> Result<f64> {
        let rates: Vec<f64> = (0..rayon::current_num_threads())
            .into_par_iter()
            .with_max_len(1)
            .map(|_| {
                let (start, mut done) = (Instant::now(), 0);
                while start.elapsed() < time {
                    control.advance(0)?;
                    done += work();
                }
                Ok(done as f64 / start.elapsed().as_secs_f64())
            })
            .collect::<Result<_>>()?;
        Ok(rates.iter().sum())
    };
    let fma = rate(&|| kernels.fma(STEPS))?;
    let int8 = rate(&|| kernels.int8(STEPS))?;
    let start = Instant::now();
    let mut read = 0;
    while !memory.is_empty() && (read == 0 || start.elapsed() < time) {
        control.advance(0)?;
        read += memory.par_chunks(PIECE).map(|piece| kernels.read(piece)).sum::<u64>();
    }
    Ok(Peak { fma, int8, read: read as f64 / start.elapsed().as_secs_f64() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_positive_and_empty_memory_is_no_error() {
        let control = Control::new();
        let peak = calibrate(&[1; 5000], Duration::from_millis(2), &control).unwrap();
        assert!(peak.fma > 0.0 && peak.int8 > 0.0 && peak.read > 0.0);
        assert!(calibrate(&[], Duration::from_millis(1), &control).unwrap().read < 1.0);
        control.interrupt();
        assert!(calibrate(&[1], Duration::from_millis(1), &control).is_err());
    }
}
