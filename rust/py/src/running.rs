//! Bindings of `ilias_fast_core::search::running`.

use std::ops::Range;

use half::f16;
use ilias_fast_core::search::element::Element;
use ilias_fast_core::search::{self, Database, Running, Screen, TopK};
use numpy::{PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::vector;
use crate::call::call;
use crate::error::to_python;
use crate::search::{Found, check_room, one, results, rows};
use crate::store::PyStore;

/// A search that goes on over parts of a database, one at a time.
#[pyclass(name = "RunningSearch", module = "ilias_fast._core")]
pub struct PyRunning {
    inner: Running,
    queries: usize,
    k: usize,
}

impl PyRunning {
    fn search<T: Element>(
        &mut self,
        py: Python<'_>,
        part: &Database<'_, T>,
        threads: Option<usize>,
        progress: Option<&Py<PyAny>>,
    ) -> PyResult<()> {
        check_room(self.queries, self.k.min(self.inner.rows() + part.searched()))?;
        call(py, threads, progress, |control| self.inner.add(part, Screen::Auto, control))
    }
}

#[pymethods]
impl PyRunning {
    /// `state` is (rows searched, scores, indices) of an earlier search of these queries.
    #[new]
    #[pyo3(signature = (queries, k, state = None))]
    #[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
    fn new(
        queries: PyReadonlyArray2<'_, f32>,
        k: usize,
        state: Option<(usize, PyReadonlyArray2<'_, f32>, PyReadonlyArray2<'_, i64>)>,
    ) -> PyResult<Self> {
        let matrix = rows("queries", &queries)?;
        let mut inner = Running::new(matrix, k).map_err(to_python)?;
        if let Some((searched, scores, indices)) = state {
            let (scores, indices) = (rows("scores", &scores)?, rows("indices", &indices)?);
            let found = TopK {
                k: scores.columns(),
                scores: scores.slice(0..scores.rows()).to_vec(),
                indices: indices.slice(0..indices.rows()).to_vec(),
            };
            inner = inner.resume(searched, &found).map_err(to_python)?;
        }
        Ok(Self { inner, queries: queries.shape()[0], k })
    }

    /// Searches float16 rows.
    #[pyo3(signature = (database, selected, threads, progress))]
    #[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
    fn add(
        &mut self,
        py: Python<'_>,
        database: PyReadonlyArray2<'_, f16>,
        selected: Option<PyReadonlyArray1<'_, bool>>,
        threads: Option<usize>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        self.search(py, &one(&database, selected.as_ref())?, threads, progress.as_ref())
    }

    /// Searches float32 rows.
    #[pyo3(signature = (database, selected, threads, progress))]
    #[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
    fn add_float32(
        &mut self,
        py: Python<'_>,
        database: PyReadonlyArray2<'_, f32>,
        selected: Option<PyReadonlyArray1<'_, bool>>,
        threads: Option<usize>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        self.search(py, &one(&database, selected.as_ref())?, threads, progress.as_ref())
    }

    /// Searches runs of rows (store, first, behind the last) of global stores in one pass.
    #[pyo3(signature = (parts, selected, threads, progress))]
    #[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
    fn add_stores(
        &mut self,
        py: Python<'_>,
        parts: Vec<(Py<PyStore>, usize, usize)>,
        selected: Option<PyReadonlyArray1<'_, bool>>,
        threads: Option<usize>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let selected = selected.as_ref().map(|selected| vector("selected", selected)).transpose()?;
        let runs: Vec<(&ilias_fast_core::store::Store, Range<usize>)> =
            parts.iter().map(|(store, first, stop)| (&*store.get().inner, *first..*stop)).collect();
        let database = search::stored::sequence(&runs, selected).map_err(to_python)?;
        self.search(py, &database, threads, progress.as_ref())
    }

    /// Rows of all parts.
    #[getter]
    fn rows(&self) -> usize {
        self.inner.rows()
    }

    /// (scores, indices) of the best so far.
    fn found<'py>(&self, py: Python<'py>) -> PyResult<Found<'py, f32>> {
        let found = self.inner.found();
        results(py, self.queries, found.k, found.scores, found.indices)
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyRunning>()
}
