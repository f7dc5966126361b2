//! Chamfer similarity and tentative correspondences of arrays.

use half::f16;
use ilias_fast_core::kernels::maxsim::Precision;
use ilias_fast_core::kernels::nearest::{QueryBlock, Scratch};
use ilias_fast_core::rerank::chamfer::{Direction, FloatQuery};
use ilias_fast_core::rerank::matching::{self, Match};
use ilias_fast_core::rerank::options::MatchOptions;
use ilias_fast_core::rerank::shortlist;
use ilias_fast_core::{Error, Result};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use super::{call_pair, same_length};
use crate::arrays::{matrix, vector};
use crate::call::call;
use crate::error::to_python;

/// Query descriptor, database descriptor and distance of correspondences.
pub type Columns<'py> = (Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<i32>>);

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(match_codes, module)?)?;
    module.add_function(wrap_pyfunction!(match_images, module)?)?;
    module.add_function(wrap_pyfunction!(chamfer, module)?)?;
    module.add_function(wrap_pyfunction!(chamfer_float, module)?)
}

/// A distance limit as the core takes it: no distance exceeds 512 bits, so larger limits mean the same.
fn distance_limit(max_distance: i64) -> Result<u16> {
    u64::try_from(max_distance)
        .map(|limit| limit.min(u64::from(u16::MAX - 1)) as u16)
        .map_err(|_| Error::parameter("max_distance", "0 or more bits", max_distance))
}

/// The filters of tentative correspondences, checked.
pub fn match_options(max_distance: i64, ratio: f64, mutual: bool) -> Result<MatchOptions> {
    let options = MatchOptions { max_distance: distance_limit(max_distance)?, ratio, mutual };
    options.check()?;
    Ok(options)
}

/// Correspondences as three columns.
pub fn columns<'py>(py: Python<'py>, matches: &[Match]) -> Columns<'py> {
    let column = |value: fn(&Match) -> i32| matches.iter().map(value).collect::<Vec<_>>().into_pyarray(py);
    (
        column(|found| found.query as i32),
        column(|found| found.database as i32),
        column(|found| i32::from(found.distance)),
    )
}

#[pyfunction]
fn match_codes<'py>(
    py: Python<'py>,
    query_codes: PyReadonlyArray2<'py, u8>,
    database_codes: PyReadonlyArray2<'py, u8>,
    max_distance: i64,
    ratio: f64,
    mutual: bool,
) -> PyResult<Columns<'py>> {
    let (query, bytes) = matrix("query_codes", &query_codes)?;
    let (database, found) = matrix("database_codes", &database_codes)?;
    let matches = call_pair(py, query.len().saturating_mul(database.len()) / bytes.max(1).pow(2), || {
        same_length("database_codes", bytes, found)?;
        let options = match_options(max_distance, ratio, mutual)?;
        let mut matches = Vec::new();
        let block = QueryBlock::new(query, bytes)?;
        matching::find(query, &block, database, &options, &mut Scratch::default(), &mut matches)?;
        Ok(matches)
    })?;
    Ok(columns(py, &matches))
}

#[pyfunction]
#[pyo3(signature = (query_codes, codes, offsets, max_distance, ratio, mutual, threads, progress))]
#[expect(clippy::needless_pass_by_value, clippy::too_many_arguments, reason = "the signature Python calls")]
fn match_images<'py>(
    py: Python<'py>,
    query_codes: PyReadonlyArray2<'py, u8>,
    codes: PyReadonlyArray2<'py, u8>,
    offsets: PyReadonlyArray1<'py, i64>,
    max_distance: i64,
    ratio: f64,
    mutual: bool,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Bound<'py, PyArray1<i64>>, Columns<'py>)> {
    let (query, bytes) = matrix("query_codes", &query_codes)?;
    let (codes, found) = matrix("codes", &codes)?;
    let offsets = vector("offsets", &offsets)?;
    let (offsets, matches) = call(py, threads, progress.as_ref(), |control| {
        same_length("codes", bytes, found)?;
        let options = match_options(max_distance, ratio, mutual)?;
        shortlist::match_arrays(query, bytes, codes, offsets, &options, control)
    })?;
    Ok((offsets.into_pyarray(py), columns(py, &matches)))
}

#[pyfunction]
#[pyo3(signature = (query_codes, codes, offsets, direction, threads, progress))]
#[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
fn chamfer<'py>(
    py: Python<'py>,
    query_codes: PyReadonlyArray2<'py, u8>,
    codes: PyReadonlyArray2<'py, u8>,
    offsets: PyReadonlyArray1<'py, i64>,
    direction: &str,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let (query, bytes) = matrix("query_codes", &query_codes)?;
    let (codes, found) = matrix("codes", &codes)?;
    let offsets = vector("offsets", &offsets)?;
    let direction = direction_of(direction).map_err(to_python)?;
    let scores = call(py, threads, progress.as_ref(), |control| {
        same_length("codes", bytes, found)?;
        shortlist::chamfer_arrays(query, bytes, codes, offsets, direction, control)
    })?;
    Ok(scores.into_pyarray(py))
}

fn direction_of(name: &str) -> Result<Direction> {
    match name {
        "query" => Ok(Direction::Query),
        "database" => Ok(Direction::Database),
        "symmetric" => Ok(Direction::Symmetric),
        other => {
            let expected = "'query', 'database' or 'symmetric'";
            Err(Error::parameter("direction", expected, format!("{other:?}")))
        }
    }
}

#[pyfunction]
#[pyo3(signature = (query, descriptors, offsets, direction, precision, threads, progress))]
#[expect(clippy::needless_pass_by_value, clippy::too_many_arguments, reason = "the signature Python calls")]
fn chamfer_float<'py>(
    py: Python<'py>,
    query: PyReadonlyArray2<'py, f32>,
    descriptors: PyReadonlyArray2<'py, f16>,
    offsets: PyReadonlyArray1<'py, i64>,
    direction: &str,
    precision: &str,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let (query, dimension) = matrix("query descriptors", &query)?;
    let (descriptors, found) = matrix("descriptors", &descriptors)?;
    let offsets = vector("offsets", &offsets)?;
    let scores = call(py, threads, progress.as_ref(), |control| {
        let direction = direction_of(direction)?;
        let precision = match precision {
            "float32" => Precision::Float32,
            "bfloat16" => Precision::Bfloat16,
            other => {
                let expected = "'float32' or 'bfloat16'";
                return Err(Error::parameter("precision", expected, format!("{other:?}")));
            }
        };
        if found != dimension {
            let expected = format!("{dimension} columns, as the query's");
            return Err(Error::shape("descriptors", expected, format!("{found} columns")));
        }
        let query = FloatQuery::new(query, dimension, precision)?;
        shortlist::chamfer_float_arrays(&query, descriptors, offsets, direction, control)
    })?;
    Ok(scores.into_pyarray(py))
}
