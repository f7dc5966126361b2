//! Thread pools: kept and reused, one for each call at a time, and never shared with a forked child.
//!
//! A forked child (a `DataLoader` worker) inherits the parent's memory but none of its threads, so a pool
//! made before the fork would wait forever. Pools are therefore keyed by process id.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};
use crate::kernels::float_mode;

/// The environment variable that sets the default number of threads.
pub const ENV: &str = "ILIAS_FAST_THREADS";

/// More threads than this is a mistake in the argument, not a wish.
const MOST: usize = 1024;

/// Pools beyond so many are let go once nobody uses them: who tries every number of threads should not keep them all.
const KEPT: usize = 8;

struct Entry {
    process: u32,
    threads: usize,
    pool: Arc<ThreadPool>,
}

static POOLS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// The number of threads used when the caller does not say: `ILIAS_FAST_THREADS`, else the available cores.
pub fn default_threads() -> Result<usize> {
    Ok(wished(None)?
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get)))
}

/// The number of threads that a caller asks for, or else the environment.
///
/// # Errors
/// [`Error::Parameter`] if that is no number of threads.
pub fn wished(threads: Option<usize>) -> Result<Option<usize>> {
    if let Some(threads) = threads {
        let fits = (1..=MOST).contains(&threads);
        let wrong = || Error::parameter("threads", format!("a whole number from 1 to {MOST}"), threads);
        return fits.then_some(Some(threads)).ok_or_else(wrong);
    }
    let Some(text) = std::env::var_os(ENV).filter(|text| !text.is_empty()) else { return Ok(None) };
    let text = text.to_string_lossy();
    let number = text.parse().ok().filter(|threads| (1..=MOST).contains(threads));
    let wrong = || Error::parameter(ENV, format!("a whole number from 1 to {MOST}"), format!("{text:?}"));
    number.map(Some).ok_or_else(wrong)
}

/// A pool with `threads` threads (`None`: [`default_threads`]) that nobody else uses while it is held.
pub fn pool(threads: Option<usize>) -> Result<Arc<ThreadPool>> {
    let threads = wished(threads)?.map_or_else(default_threads, Ok)?;
    let process = std::process::id();
    let mut pools = match POOLS.try_lock() {
        Ok(pools) => pools,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // Held by another thread, or forever by a thread that did not survive a fork: a pool of our own
        // costs some microseconds, waiting could cost eternity.
        Err(TryLockError::WouldBlock) => return build(threads),
    };
    // A pool somebody holds is busy: work queued behind a long call would wait for its end, however small.
    let idle = |entry: &&Entry| {
        entry.process == process && entry.threads == threads && Arc::strong_count(&entry.pool) == 1
    };
    if let Some(entry) = pools.iter().find(idle) {
        return Ok(Arc::clone(&entry.pool));
    }
    // Pools of a parent process are forgotten, not dropped: dropping would wait for threads that are not here.
    let (ours, inherited) =
        std::mem::take(&mut *pools).into_iter().partition(|entry| entry.process == process);
    *pools = ours;
    Vec::into_iter(inherited).for_each(|entry: Entry| std::mem::forget(entry.pool));
    let pool = build(threads)?;
    pools.push(Entry { process, threads, pool: Arc::clone(&pool) });
    let mut beyond = pools.len().saturating_sub(KEPT);
    // The oldest first. Dropping a pool tells its threads to end and does not wait for them.
    pools.retain(|entry| {
        let goes = beyond > 0 && Arc::strong_count(&entry.pool) == 1;
        beyond -= usize::from(goes);
        !goes
    });
    Ok(pool)
}

fn build(threads: usize) -> Result<Arc<ThreadPool>> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("ilias-fast-{index}"))
        .start_handler(|_| float_mode::standardise())
        .build()
        .map(Arc::new)
        .map_err(|cause| {
            Error::parameter("threads", "a number the system can start", format!("{threads} ({cause})"))
        })
}

/// How long a thread of a pool stays awake for the next short call. To wake it takes as long as many such calls, and while the
/// caller computes the system may leave it waiting for the caller's core.
const AWAKE: Duration = Duration::from_micros(200);

/// Keeps some threads of a pool awake for a moment, for the next call.
pub fn keep_awake(pool: &ThreadPool, threads: usize) {
    (0..threads).for_each(|_| pool.spawn(stay_awake));
}

/// Keeps a thread of a pool awake until there was no work for a while.
fn stay_awake() {
    thread_local! {
        static IS_AWAKE: Cell<bool> = const { Cell::new(false) };
    }
    // Work done below, one level deeper, may ask for this again.
    if IS_AWAKE.replace(true) {
        return;
    }
    let mut idle_since = Instant::now();
    while idle_since.elapsed() < AWAKE {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            idle_since = Instant::now();
        }
        std::hint::spin_loop();
    }
    IS_AWAKE.set(false);
}

/// Threads that share work out among themselves, the caller one of them: what others have not begun when they wake up, the
/// caller has done.
#[derive(Debug, Clone, Copy)]
pub enum Team<'a> {
    /// The caller alone.
    Alone,
    /// The caller, which is no thread of the pool, in place of one of its threads.
    With(&'a ThreadPool),
    /// The pool that the caller is a thread of.
    Current,
}

impl Team<'_> {
    /// How many threads there are.
    pub fn threads(&self) -> usize {
        match self {
            Self::Alone => 1,
            Self::With(pool) => pool.current_num_threads(),
            Self::Current => rayon::current_num_threads(),
        }
    }

    /// Calls `work` once for each number below `units`, each thread with a state of its own.
    ///
    /// # Errors
    /// The first error that a thread met; numbers not begun by then are left out.
    pub fn share<S>(
        &self,
        units: usize,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize) -> Result<()> + Sync,
    ) -> Result<()> {
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        let take_part = || {
            let mut own = None;
            loop {
                let unit = next.fetch_add(1, Relaxed);
                if unit >= units {
                    return;
                }
                if let Err(error) = work(own.get_or_insert_with(&state), unit) {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    next.store(units, Relaxed);
                }
            }
        };
        let take_part = &take_part;
        let others = self.threads().min(units).saturating_sub(1);
        match self {
            Self::With(pool) if others > 0 => {
                pool.in_place_scope(|scope| {
                    (0..others).for_each(|_| scope.spawn(|_| take_part()));
                    take_part();
                });
                keep_awake(pool, others);
            }
            Self::Current if others > 0 => rayon::scope(|scope| {
                (0..others).for_each(|_| scope.spawn(|_| take_part()));
                take_part();
            }),
            _ => take_part(),
        }
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_have_the_size_asked_for() {
        assert_eq!(pool(Some(3)).unwrap().current_num_threads(), 3);
        assert!(pool(Some(0)).is_err());
        assert!(pool(Some(MOST + 1)).is_err());
    }

    #[test]
    fn a_pool_is_reused_once_it_is_let_go_and_not_before() {
        let first = pool(Some(5)).unwrap();
        let second = pool(Some(5)).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        let address = Arc::as_ptr(&first);
        drop(first);
        assert_eq!(Arc::as_ptr(&pool(Some(5)).unwrap()), address);
    }

    #[test]
    fn pools_nobody_uses_do_not_pile_up() {
        let used = pool(Some(21)).unwrap();
        for threads in 22..22 + 3 * KEPT {
            drop(pool(Some(threads)).unwrap());
        }
        // Other tests hold pools, too.
        let kept = |threads: std::ops::Range<usize>| {
            POOLS.lock().unwrap().iter().any(|entry| threads.contains(&entry.threads))
        };
        assert!(!kept(22..22 + KEPT));
        assert!(kept(21..22));
        drop(used);
    }
}
