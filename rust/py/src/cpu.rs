//! The CPU level and the number of threads, for `ilias_fast.cpu`.

use ilias_fast_core::{Level, level, threads};
use pyo3::prelude::*;

use crate::error::to_python;

/// The level the kernels use now.
#[pyfunction]
fn cpu_level() -> PyResult<&'static str> {
    level::active().map(Level::name).map_err(to_python)
}

/// The levels this machine can run, reference first.
#[pyfunction]
fn available_cpu_levels() -> Vec<&'static str> {
    Level::available().into_iter().map(Level::name).collect()
}

/// Pins the level by name, or (`None`) takes the pin back.
#[pyfunction]
#[pyo3(signature = (name, /))]
fn pin_cpu_level(name: Option<&str>) -> PyResult<()> {
    name.map(Level::from_name).transpose().and_then(level::pin).map_err(to_python)
}

/// The number of threads used when a call does not say.
#[pyfunction]
fn default_threads() -> PyResult<usize> {
    threads::default_threads().map_err(to_python)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(cpu_level, module)?)?;
    module.add_function(wrap_pyfunction!(available_cpu_levels, module)?)?;
    module.add_function(wrap_pyfunction!(pin_cpu_level, module)?)?;
    module.add_function(wrap_pyfunction!(default_threads, module)?)
}
