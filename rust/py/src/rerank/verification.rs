//! Spatial verification of arrays.

use ilias_fast_core::Error;
use ilias_fast_core::rerank::verification;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2};
use pyo3::prelude::*;

use super::call_pair;
use crate::arrays::matrix;

/// A map as a 2 x 3 matrix.
pub type Model<'py> = Option<Bound<'py, PyArray2<f64>>>;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(verify_spatial, module)?)
}

pub fn model<'py>(py: Python<'py>, found: &verification::Verification) -> PyResult<Model<'py>> {
    found.model.map(|map| map.0.to_vec().into_pyarray(py).reshape([2, 3])).transpose()
}

#[pyfunction]
fn verify_spatial<'py>(
    py: Python<'py>,
    query_xy: PyReadonlyArray2<'py, f32>,
    database_xy: PyReadonlyArray2<'py, f32>,
    threshold: f64,
) -> PyResult<(usize, Model<'py>, Bound<'py, PyArray1<bool>>)> {
    let (query, width) = matrix("query_xy", &query_xy)?;
    let (database, other_width) = matrix("database_xy", &database_xy)?;
    let (found, mask) = call_pair(py, query.len().saturating_mul(1000), || {
        for (what, columns) in [("query_xy", width), ("database_xy", other_width)] {
            if columns != 2 {
                return Err(Error::shape(what, "[t, 2]", format!("{columns} columns")));
            }
        }
        if query.len() != database.len() {
            let expected = format!("[{}, 2], one row for each of query_xy", query.len() / 2);
            return Err(Error::shape("database_xy", expected, format!("[{}, 2]", database.len() / 2)));
        }
        let pairs = query.chunks_exact(2).zip(database.chunks_exact(2));
        let correspondences: Vec<_> = pairs.map(|(q, d)| [q[0], q[1], d[0], d[1]]).collect();
        let mut workspace = verification::Workspace::default();
        let options = verification::Options::within(threshold);
        let found = verification::verify(&correspondences, None, &options, &mut workspace)?;
        Ok((found, workspace.mask))
    })?;
    Ok((found.inliers, model(py, &found)?, mask.into_pyarray(py)))
}
