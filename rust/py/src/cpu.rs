//! The CPU level, the number of threads and the machine's peak, for `ilias_fast.cpu`.

use std::time::Duration;

use ilias_fast_core::{Error, Level, calibrate as core, level, threads};
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;

use crate::arrays::vector;
use crate::call::call;
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

/// (float32 operations, int8 operations, bytes read) a second, each measured for `seconds`.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
fn calibrate(
    py: Python<'_>,
    memory: PyReadonlyArray1<'_, u8>,
    seconds: f64,
    threads: Option<usize>,
) -> PyResult<(f64, f64, f64)> {
    let memory = vector("memory", &memory)?;
    let time = Duration::try_from_secs_f64(seconds)
        .map_err(|_| to_python(Error::parameter("seconds", "a time of at least 0", seconds)))?;
    let peak = call(py, threads, None, |control| core::calibrate(memory, time, control))?;
    Ok((peak.fma, peak.int8, peak.read))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(cpu_level, module)?)?;
    module.add_function(wrap_pyfunction!(available_cpu_levels, module)?)?;
    module.add_function(wrap_pyfunction!(pin_cpu_level, module)?)?;
    module.add_function(wrap_pyfunction!(default_threads, module)?)?;
    module.add_function(wrap_pyfunction!(calibrate, module)?)
}
