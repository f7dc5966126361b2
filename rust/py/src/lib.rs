//! `ilias_fast._core`: the Python face of `ilias-fast-core`.
//!
//! Every function here checks and converts its arguments, releases the GIL, calls one core function and
//! converts the result back. A file a core module.

use pyo3::prelude::*;

mod adapt;
mod arrays;
mod call;
mod chunks;
mod cpu;
mod error;
mod evaluate;
mod rerank;
mod run;
mod running;
mod score;
mod search;
mod store;

/// The compiled core of ilias-fast.
#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    cpu::register(module)?;
    chunks::register(module)?;
    store::register(module)?;
    adapt::register(module)?;
    search::register(module)?;
    running::register(module)?;
    score::register(module)?;
    rerank::register(module)?;
    run::register(module)?;
    evaluate::register(module)
}
