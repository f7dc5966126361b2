//! Interruption and progress of long work.
//!
//! A long loop calls [`Control::advance`] once per block of a few milliseconds of work: it counts what is
//! done and returns [`Error::Interrupted`] when the caller wants to stop. Parts of a unit of work call
//! [`Control::check`], which is one load. The caller (the Python binding)
//! watches the counter from its own thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Shared between the thread that waits and the threads that work.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    done: AtomicU64,
    parts: AtomicU64,
}

impl Control {
    /// A control nobody has interrupted yet.
    pub const fn new() -> Self {
        Self { stop: AtomicBool::new(false), done: AtomicU64::new(0), parts: AtomicU64::new(0) }
    }

    /// Adds `units` of finished work; an error if the caller asked to stop.
    pub fn advance(&self, units: u64) -> Result<()> {
        self.done.fetch_add(units, Ordering::Relaxed);
        self.check()
    }

    /// An error if the caller asked to stop; counts nothing.
    pub fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Adds `parts` of what is finished inside a unit; an error if the caller asked to stop.
    pub fn advance_parts(&self, parts: u64) -> Result<()> {
        self.parts.fetch_add(parts, Ordering::Relaxed);
        self.check()
    }

    /// Asks the work to stop at its next [`Self::advance`].
    pub fn interrupt(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Units of work finished so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Parts finished so far.
    pub fn parts(&self) -> u64 {
        self.parts.load(Ordering::Relaxed)
    }
}
