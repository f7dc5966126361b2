//! Bindings of `ilias_fast_core::search::score_rows`.

use half::f16;
use ilias_fast_core::search::{self, Database, Matrix};
use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{matrix, vector};
use crate::call::call;
use crate::error::to_python;

/// Canonical scores of query q and the rows `rows[offsets[q]:offsets[q + 1]]`.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
fn score_rows<'py>(
    py: Python<'py>,
    queries: PyReadonlyArray2<'py, f32>,
    database: PyReadonlyArray2<'py, f16>,
    offsets: PyReadonlyArray1<'py, i64>,
    rows: PyReadonlyArray1<'py, i64>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let (values, columns) = matrix("queries", &queries)?;
    let query_rows = Matrix::new("queries", queries.shape()[0], columns, values).map_err(to_python)?;
    let (values, columns) = matrix("database", &database)?;
    let shard = Matrix::new("database", database.shape()[0], columns, values).map_err(to_python)?;
    let database = Database::new(columns, vec![shard], None).map_err(to_python)?;
    let (offsets, rows) = (vector("offsets", &offsets)?, vector("rows", &rows)?);
    let scores =
        call(py, threads, None, |control| search::score_rows(query_rows, &database, offsets, rows, control))?;
    Ok(PyArray1::from_vec(py, scores))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(score_rows, module)?)
}
