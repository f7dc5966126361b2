//! Bindings of `ilias_fast_core::evaluate`.
#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands over owned arguments")]

use ilias_fast_core::evaluate::{self, Block, Judgements};
use ilias_fast_core::{Control, Error};
use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2, ToPyArray};
use pyo3::prelude::*;

use crate::arrays::{matrix, vector};
use crate::call::{call, call_short};
use crate::error::to_python;

/// A count that Python gave as any integer; the core checks what else must hold of it.
fn count(what: &str, expected: &str, value: i64) -> PyResult<usize> {
    usize::try_from(value).map_err(|_| to_python(Error::parameter(what, expected, value)))
}

/// Results that are sorted in some milliseconds.
const SHORT: usize = 1 << 17;

/// AP@k of one list.
#[pyfunction]
fn average_precision(
    py: Python<'_>,
    scores: PyReadonlyArray1<'_, f64>,
    relevant: PyReadonlyArray1<'_, bool>,
    positives: i64,
    k: i64,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<f64> {
    let (scores, relevant) = (vector("scores", &scores)?, vector("relevant", &relevant)?);
    let (positives, k) = (count("positives", "0 or more", positives)?, count("k", "1 or more", k)?);
    let work = |control: &Control| evaluate::average_precision(scores, relevant, positives, k, control);
    if scores.len() > SHORT {
        return call(py, threads, progress.as_ref(), work);
    }
    call_short(py, progress.as_ref(), Control::done, work)
}

/// Arrays `aps`, `oracles`, `official_oracles` and `found`.
type Judged<'py> = (
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<i64>>,
);

/// AP@k of every query and group of a run, and the positives found; see `ilias_fast_core::evaluate::judge`.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the fields of Judgements, one by one")]
fn judge<'py>(
    py: Python<'py>,
    offsets: PyReadonlyArray1<'py, i64>,
    rows: PyReadonlyArray1<'py, i64>,
    scores: PyReadonlyArray1<'py, f64>,
    instances: PyReadonlyArray1<'py, i32>,
    groups: PyReadonlyArray1<'py, u32>,
    queries: PyReadonlyArray1<'py, i32>,
    positives: PyReadonlyArray1<'py, i64>,
    group_count: usize,
    k: i64,
    threads: Option<usize>,
) -> PyResult<Judged<'py>> {
    let input = Judgements {
        offsets: vector("offsets", &offsets)?,
        rows: vector("rows", &rows)?,
        scores: vector("scores", &scores)?,
        instances: vector("instances", &instances)?,
        groups: vector("groups", &groups)?,
        queries: vector("queries", &queries)?,
        positives: vector("positives", &positives)?,
        group_count,
        k: count("k", "1 or more", k)?,
    };
    let judged = call(py, threads, None, |control| evaluate::judge(&input, control))?;
    Ok((
        judged.aps.to_pyarray(py),
        judged.oracles.to_pyarray(py),
        judged.official_oracles.to_pyarray(py),
        judged.found.to_pyarray(py),
    ))
}

/// `above`, `near`, and `close` as arrays of queries and of columns.
type Counted<'py> = (
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
);

/// Scores above the limits of their query; see `ilias_fast_core::evaluate::count_above`.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the fields of Block, one by one")]
fn count_above<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f32>,
    offsets: PyReadonlyArray1<'py, i64>,
    low: PyReadonlyArray1<'py, f32>,
    high: PyReadonlyArray1<'py, f32>,
    start: usize,
    stop: usize,
    members: Option<PyReadonlyArray1<'py, i64>>,
    threads: Option<usize>,
) -> PyResult<Counted<'py>> {
    let (scores, width) = matrix("scores", &scores)?;
    let block = Block {
        scores,
        width,
        offsets: vector("offsets", &offsets)?,
        low: vector("low", &low)?,
        high: vector("high", &high)?,
    };
    let members = members.as_ref().map(|members| vector("members", members)).transpose()?;
    let found =
        call(py, threads, None, |control| evaluate::count_above(&block, start..stop, members, control))?;
    let (queries, columns): (Vec<i64>, Vec<i64>) = found.close.into_iter().unzip();
    Ok((
        found.above.to_pyarray(py),
        found.near.to_pyarray(py),
        queries.to_pyarray(py),
        columns.to_pyarray(py),
    ))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(average_precision, module)?)?;
    module.add_function(wrap_pyfunction!(count_above, module)?)?;
    module.add_function(wrap_pyfunction!(judge, module)?)
}
