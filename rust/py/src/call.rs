//! How a core function is called: GIL released, Ctrl-C honoured, progress reported.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ilias_fast_core::kernels::float_mode::in_standard;
use ilias_fast_core::threads::Team;
use ilias_fast_core::{Control, Error, Result, threads};
use pyo3::prelude::*;

use crate::error::to_python;

/// How often the waiting thread looks for signals and reports progress.
const PULSE: Duration = Duration::from_millis(50);

/// After a call that took less, the next one gains if the threads are still awake.
const SHORT: Duration = Duration::from_millis(50);

/// Runs `work` inside the pool of `threads` threads, without the GIL.
///
/// The calling thread waits, and every 50 ms lets Python handle signals and calls `progress(done)` with the
/// units the work has counted by [`Control::advance`]. An exception from either interrupts the work, is
/// waited for, and is raised.
pub fn call<T: Send>(
    py: Python<'_>,
    threads: Option<usize>,
    progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&Control) -> Result<T> + Send,
) -> PyResult<T> {
    call_counting(py, threads, progress, Control::done, work)
}

/// [`call`] that reports another count of the control.
pub fn call_counting<T: Send>(
    py: Python<'_>,
    threads: Option<usize>,
    progress: Option<&Py<PyAny>>,
    counted: impl Fn(&Control) -> u64 + Sync,
    work: impl FnOnce(&Control) -> Result<T> + Send,
) -> PyResult<T> {
    check_callable(py, progress)?;
    let pool = threads::pool(threads).map_err(to_python)?;
    let (control, started) = (Control::new(), Instant::now());
    let report = |py: Python<'_>| -> PyResult<()> {
        py.check_signals()?;
        progress.map_or(Ok(()), |callback| callback.call1(py, (counted(&control),)).map(drop))
    };
    let result = py.detach(|| {
        let (sender, receiver) = channel();
        let control = &control;
        pool.in_place_scope(|scope| {
            scope.spawn(move |_| {
                // The receiver lives until the scope ends, so sending cannot fail.
                let _ = sender.send(work(control));
            });
            let mut raised = None;
            loop {
                match receiver.recv_timeout(PULSE) {
                    Ok(outcome) => return raised.map_or_else(|| outcome.map_err(to_python), Err),
                    Err(RecvTimeoutError::Timeout) if raised.is_none() => {
                        match Python::try_attach(report) {
                            Some(Ok(())) => {}
                            Some(Err(exception)) => {
                                control.interrupt();
                                raised = Some(exception);
                            }
                            // The interpreter ends under a daemon thread, and there is no way back into it.
                            None => {
                                control.interrupt();
                                loop {
                                    std::thread::park();
                                }
                            }
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    // `work` panicked: the scope re-raises the panic on this thread once it ends.
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(pyo3::exceptions::PyRuntimeError::new_err(
                            "internal error in ilias_fast._core",
                        ));
                    }
                }
            }
        })
    })?;
    if started.elapsed() < SHORT {
        threads::keep_awake(&pool, pool.current_num_threads());
    }
    report(py)?;
    Ok(result)
}

/// Runs `work` that takes a few milliseconds on this thread, without the GIL, and calls `progress` once, at its end.
///
/// Handing it to a pool would cost as much as the work.
pub fn call_short<T: Send>(
    py: Python<'_>,
    progress: Option<&Py<PyAny>>,
    counted: impl Fn(&Control) -> u64,
    work: impl FnOnce(&Control) -> Result<T> + Send,
) -> PyResult<T> {
    check_callable(py, progress)?;
    let control = Control::new();
    let found = py.detach(|| in_standard(|| work(&control))).map_err(to_python)?;
    progress.map_or(Ok(()), |callback| callback.call1(py, (counted(&control),)).map(drop))?;
    Ok(found)
}

/// [`call_short`] with the help of the other threads of a pool.
pub fn call_together<T: Send>(
    py: Python<'_>,
    threads: Option<usize>,
    progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&Team<'_>, &Control) -> Result<T> + Send,
) -> PyResult<T> {
    let pool = threads::pool(threads).map_err(to_python)?;
    call_short(py, progress, Control::done, |control| work(&Team::With(&pool), control))
}

/// An error, before any work is done, if `progress` is nothing that can be called.
pub fn check_callable(py: Python<'_>, progress: Option<&Py<PyAny>>) -> PyResult<()> {
    match progress.map(|callback| callback.bind(py)) {
        Some(callback) if !callback.is_callable() => {
            let found = callback.repr()?.to_string();
            Err(to_python(Error::parameter("progress", "a function, or None", found)))
        }
        _ => Ok(()),
    }
}
