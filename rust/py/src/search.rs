//! Bindings of `ilias_fast_core::search`.

use std::path::PathBuf;

use half::f16;
use ilias_fast_core::search::element::Element;
use ilias_fast_core::search::small::{self, Effort};
use ilias_fast_core::search::{self, Database, Matrix, OwnedPlanes, Screen};
use ilias_fast_core::threads::{self, Team};
use ilias_fast_core::{Control, Error};
use numpy::{
    Element as NumpyElement, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyReadwriteArray2, PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use crate::arrays::{matrix, vector};
use crate::call::{call, call_short, call_together};
use crate::error::to_python;
use crate::store::PyStore;

pub type Found<'py, T> = (Bound<'py, PyArray2<T>>, Bound<'py, PyArray2<i64>>);

/// The matrix an array holds.
pub fn rows<'a, T: NumpyElement>(what: &str, array: &'a PyReadonlyArray2<'_, T>) -> PyResult<Matrix<'a, T>> {
    let (values, columns) = matrix(what, array)?;
    Matrix::new(what, array.shape()[0], columns, values).map_err(to_python)
}

/// Two result matrices of `queries` rows and `k` columns.
pub fn results<T: NumpyElement>(
    py: Python<'_>,
    queries: usize,
    k: usize,
    values: Vec<T>,
    indices: Vec<i64>,
) -> PyResult<Found<'_, T>> {
    Ok((
        PyArray1::from_vec(py, values).reshape([queries, k])?,
        PyArray1::from_vec(py, indices).reshape([queries, k])?,
    ))
}

/// An error if so many results cannot be held, before anything is searched: a process that runs out of memory is ended.
pub fn check_room(queries: usize, k: usize) -> PyResult<()> {
    let room = Vec::<(f32, i64)>::new().try_reserve_exact(queries.saturating_mul(k));
    room.map_err(|_| {
        let expected = "results that fit in memory (ask for fewer, or for fewer queries at a time)";
        to_python(Error::parameter("k", expected, format!("{queries} x {k} of them")))
    })
}

/// Int8 planes of a database in memory: what `build_planes` makes and `topk` takes.
///
/// Examples:
///     >>> import numpy as np
///     >>> database = np.eye(3, dtype=np.float16)
///     >>> planes = build_planes(database)
///     >>> planes.shape, topk([[0.0, 1.0, 0.5]], database, 2, planes=planes).indices.tolist()
///     ((3, 3), [[1, 2]])
#[pyclass(frozen, name = "Planes", module = "ilias_fast._core")]
#[expect(clippy::doc_markdown, reason = "Python reads it")]
pub struct PyPlanes {
    inner: OwnedPlanes,
}

#[pymethods]
impl PyPlanes {
    /// Rotates and quantises the rows of a database.
    #[staticmethod]
    #[pyo3(signature = (database, threads, progress))]
    #[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
    fn build(
        py: Python<'_>,
        database: PyReadonlyArray2<'_, f16>,
        threads: Option<usize>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let matrix = rows("database", &database)?;
        let inner = call(py, threads, progress.as_ref(), |control| OwnedPlanes::build(matrix, control))?;
        Ok(Self { inner })
    }

    /// Number of rows and of columns of the database.
    #[getter]
    fn shape(&self) -> (usize, usize) {
        let planes = self.inner.as_planes();
        (planes.rows(), planes.columns())
    }
}

/// One array as a database.
pub fn one<'a, T: NumpyElement>(
    array: &'a PyReadonlyArray2<'_, T>,
    selected: Option<&'a PyReadonlyArray1<'_, bool>>,
) -> PyResult<Database<'a, T>> {
    let matrix = rows("database", array)?;
    let selected = selected.map(|selected| vector("selected", selected)).transpose()?;
    Database::new(matrix.columns(), vec![matrix], selected).map_err(to_python)
}

fn search_vectors<'py, T: Element>(
    py: Python<'py>,
    queries: Matrix<'_, f32>,
    database: &Database<'_, T>,
    k: usize,
    screen: Screen,
    threads: Option<usize>,
    progress: Option<&Py<PyAny>>,
) -> PyResult<Found<'py, f32>> {
    check_room(queries.rows(), k.min(database.searched()))?;
    let effort = (screen == Screen::Auto).then(|| small::effort(queries, database, k)).flatten();
    let found = match effort {
        Some(Effort::Brief) => {
            threads::wished(threads).map_err(to_python)?;
            call_short(py, progress, Control::done, |control| {
                small::topk(queries, database, k, &Team::Alone, control)
            })?
        }
        Some(Effort::Short) => call_together(py, threads, progress, |team, control| {
            small::topk(queries, database, k, team, control)
        })?,
        _ => call(py, threads, progress, |control| search::topk_with(queries, database, k, screen, control))?,
    };
    results(py, queries.rows(), found.k, found.scores, found.indices)
}

/// Exact top-k of float16 rows. `screen` is for tests and benchmarks.
#[pyfunction]
#[pyo3(signature = (queries, database, k, selected, threads, progress, screen = "auto", planes = None))]
#[expect(clippy::needless_pass_by_value, clippy::too_many_arguments, reason = "the signature Python calls")]
fn topk<'py>(
    py: Python<'py>,
    queries: PyReadonlyArray2<'py, f32>,
    database: PyReadonlyArray2<'py, f16>,
    k: usize,
    selected: Option<PyReadonlyArray1<'py, bool>>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
    screen: &str,
    planes: Option<&Bound<'py, PyPlanes>>,
) -> PyResult<Found<'py, f32>> {
    let mut database = one(&database, selected.as_ref())?;
    if let Some(planes) = planes {
        database.attach(0, planes.get().inner.as_planes()).map_err(to_python)?;
    }
    let screen = Screen::from_name(screen).map_err(to_python)?;
    search_vectors(py, rows("queries", &queries)?, &database, k, screen, threads, progress.as_ref())
}

/// Exact top-k of float32 rows (adapted descriptors, which are not rounded to float16). `screen` is for tests and benchmarks.
#[pyfunction]
#[pyo3(signature = (queries, database, k, selected, threads, progress, screen = "auto"))]
#[expect(clippy::needless_pass_by_value, clippy::too_many_arguments, reason = "the signature Python calls")]
fn topk_float32<'py>(
    py: Python<'py>,
    queries: PyReadonlyArray2<'py, f32>,
    database: PyReadonlyArray2<'py, f32>,
    k: usize,
    selected: Option<PyReadonlyArray1<'py, bool>>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
    screen: &str,
) -> PyResult<Found<'py, f32>> {
    let database = one(&database, selected.as_ref())?;
    let screen = Screen::from_name(screen).map_err(to_python)?;
    search_vectors(py, rows("queries", &queries)?, &database, k, screen, threads, progress.as_ref())
}

/// Exact top-k of the rows of a global store, streamed.
#[pyfunction]
#[pyo3(signature = (queries, store, k, selected, threads, progress))]
#[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
fn topk_store<'py>(
    py: Python<'py>,
    queries: PyReadonlyArray2<'py, f32>,
    store: &Bound<'py, PyStore>,
    k: usize,
    selected: Option<PyReadonlyArray1<'py, bool>>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Found<'py, f32>> {
    let selected = selected.as_ref().map(|selected| vector("selected", selected)).transpose()?;
    let database = search::stored::database(&store.get().inner, selected).map_err(to_python)?;
    search_vectors(py, rows("queries", &queries)?, &database, k, Screen::Auto, threads, progress.as_ref())
}

/// Makes the int8 planes of the shards of a global store that lack them; returns how many it made.
#[pyfunction]
#[pyo3(signature = (path, threads, progress))]
#[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
fn build_store_planes(
    py: Python<'_>,
    path: PathBuf,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<usize> {
    call(py, threads, progress.as_ref(), |control| search::stored::build_planes(&path, control))
}

fn search_codes<'py>(
    py: Python<'py>,
    queries: Matrix<'_, u8>,
    database: &Database<'_, u8>,
    k: usize,
    threads: Option<usize>,
    progress: Option<&Py<PyAny>>,
) -> PyResult<Found<'py, i32>> {
    check_room(queries.rows(), k.min(database.searched()))?;
    let found = call(py, threads, progress, |control| search::hamming_topk(queries, database, k, control))?;
    results(py, queries.rows(), found.k, found.distances, found.indices)
}

/// Exact top-k of packed codes.
#[pyfunction]
#[pyo3(signature = (queries, database, k, selected, threads, progress))]
#[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
fn hamming_topk<'py>(
    py: Python<'py>,
    queries: PyReadonlyArray2<'py, u8>,
    database: PyReadonlyArray2<'py, u8>,
    k: usize,
    selected: Option<PyReadonlyArray1<'py, bool>>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Found<'py, i32>> {
    let (queries, database) = (rows("queries", &queries)?, rows("database", &database)?);
    let selected = selected.as_ref().map(|selected| vector("selected", selected)).transpose()?;
    let database = Database::new(database.columns(), vec![database], selected).map_err(to_python)?;
    search_codes(py, queries, &database, k, threads, progress.as_ref())
}

/// Exact top-k of the codes of a binary store, streamed.
#[pyfunction]
#[pyo3(signature = (queries, store, k, selected, threads, progress))]
#[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
fn hamming_topk_store<'py>(
    py: Python<'py>,
    queries: PyReadonlyArray2<'py, u8>,
    store: &Bound<'py, PyStore>,
    k: usize,
    selected: Option<PyReadonlyArray1<'py, bool>>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Found<'py, i32>> {
    let selected = selected.as_ref().map(|selected| vector("selected", selected)).transpose()?;
    let database = search::stored::codes(&store.get().inner, selected).map_err(to_python)?;
    search_codes(py, rows("queries", &queries)?, &database, k, threads, progress.as_ref())
}

/// All Hamming distances, written into `out`.
#[pyfunction]
#[pyo3(signature = (queries, database, out, threads, progress))]
#[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
fn hamming_matrix(
    py: Python<'_>,
    queries: PyReadonlyArray2<'_, u8>,
    database: PyReadonlyArray2<'_, u8>,
    mut out: PyReadwriteArray2<'_, i32>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<()> {
    let (queries, database) = (rows("queries", &queries)?, rows("database", &database)?);
    let strides = format!("strides {:?}", out.strides());
    let distances =
        out.as_slice_mut().map_err(|_| to_python(Error::shape("out", "a C-contiguous array", strides)))?;
    call(py, threads, progress.as_ref(), |control| {
        search::hamming_matrix(queries, database, distances, control)
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyPlanes>()?;
    module.add_function(wrap_pyfunction!(topk, module)?)?;
    module.add_function(wrap_pyfunction!(topk_float32, module)?)?;
    module.add_function(wrap_pyfunction!(topk_store, module)?)?;
    module.add_function(wrap_pyfunction!(build_store_planes, module)?)?;
    module.add_function(wrap_pyfunction!(hamming_matrix, module)?)?;
    module.add_function(wrap_pyfunction!(hamming_topk, module)?)?;
    module.add_function(wrap_pyfunction!(hamming_topk_store, module)?)
}
