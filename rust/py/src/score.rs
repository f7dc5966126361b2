//! Bindings of `ilias_fast_core::search::best_rows`.

use half::f16;
use ilias_fast_core::search::{self, Database};
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::vector;
use crate::call::call;
use crate::error::to_python;
use crate::search::{Found, check_room, results, rows as matrix_rows};

/// The best k of the rows `rows[offsets[q]:offsets[q + 1]]` for each query q.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
fn best_rows<'py>(
    py: Python<'py>,
    queries: PyReadonlyArray2<'py, f32>,
    database: PyReadonlyArray2<'py, f16>,
    offsets: PyReadonlyArray1<'py, i64>,
    rows: PyReadonlyArray1<'py, i64>,
    k: usize,
    threads: Option<usize>,
) -> PyResult<Found<'py, f32>> {
    let queries = matrix_rows("queries", &queries)?;
    let shard = matrix_rows("database", &database)?;
    let database = Database::new(shard.columns(), vec![shard], None).map_err(to_python)?;
    let (offsets, rows) = (vector("offsets", &offsets)?, vector("rows", &rows)?);
    check_room(queries.rows(), k.min(rows.len()))?;
    let found =
        call(py, threads, None, |control| search::best_rows(queries, &database, offsets, rows, k, control))?;
    results(py, queries.rows(), found.k, found.scores, found.indices)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(best_rows, module)?)
}
