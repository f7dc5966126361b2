//! Bindings of `ilias_fast_core::store`.
#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands over owned arguments")]

mod reader;
mod writer;

use std::path::PathBuf;

use ilias_fast_core::store;
use pyo3::prelude::*;

use crate::call::call;
use crate::error::to_python;

pub use reader::PyStore;
pub use writer::PyWriter;

type Damages = Vec<(String, Vec<String>, u64, u64, String)>;

/// Checks every byte; returns damages (file, tensors, start, end, detail), leftovers, shards and bytes checked.
#[pyfunction]
#[pyo3(signature = (path, quick, threads, progress))]
fn verify_store(
    py: Python<'_>,
    path: PathBuf,
    quick: bool,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Damages, Vec<String>, usize, u64)> {
    let report = call(py, threads, progress.as_ref(), |control| store::verify(&path, quick, control))?;
    let damages = report
        .damages
        .into_iter()
        .map(|damage| (damage.file, damage.tensors, damage.start, damage.end, damage.detail))
        .collect();
    Ok((damages, report.leftovers, report.shards, report.bytes))
}

/// How far [`verify_store`] counts: the size of all shards, in bytes.
#[pyfunction]
fn committed_bytes(py: Python<'_>, path: PathBuf) -> PyResult<u64> {
    py.detach(|| store::committed_bytes(&path)).map_err(to_python)
}

/// About how many rows [`compact_store`] would write.
#[pyfunction]
fn compactable_rows(py: Python<'_>, path: PathBuf, shard_bytes: usize) -> PyResult<usize> {
    py.detach(|| store::compactable_rows(&path, shard_bytes)).map_err(to_python)
}

/// Drops deleted rows and merges small shards; returns shards rewritten, shards written, rows dropped.
#[pyfunction]
#[pyo3(signature = (path, shard_bytes, progress))]
fn compact_store(
    py: Python<'_>,
    path: PathBuf,
    shard_bytes: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<(usize, usize, usize)> {
    let done = call(py, None, progress.as_ref(), |control| store::compact(&path, shard_bytes, control))?;
    Ok((done.rewritten, done.written, done.dropped))
}

/// Removes leftovers and returns their names.
#[pyfunction]
fn gc_store(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    py.detach(|| store::gc(&path)).map_err(to_python)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyStore>()?;
    module.add_class::<PyWriter>()?;
    module.add_function(wrap_pyfunction!(committed_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(compactable_rows, module)?)?;
    module.add_function(wrap_pyfunction!(compact_store, module)?)?;
    module.add_function(wrap_pyfunction!(verify_store, module)?)?;
    module.add_function(wrap_pyfunction!(gc_store, module)?)
}
