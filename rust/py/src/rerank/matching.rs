//! Chamfer similarity and tentative correspondences of arrays.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use half::f16;
use ilias_fast_core::kernels::float_mode::in_standard;
use ilias_fast_core::kernels::maxsim::Precision;
use ilias_fast_core::kernels::nearest::{QueryBlock, prefetch};
use ilias_fast_core::rerank::chamfer::{Direction, FloatQuery};
use ilias_fast_core::rerank::matching::{self, Match};
use ilias_fast_core::rerank::options::MatchOptions;
use ilias_fast_core::rerank::shortlist;
use ilias_fast_core::{Control, Error, Level, Result, level};
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::{PySequence, PyTuple};

use super::{SHORT, same_length};
use crate::arrays::{matrix, plain, ready_count, ready_flag, ready_real, vector};
use crate::call::{call, call_counting, call_short, check_callable};
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

/// Columns as arrays.
fn arrays(py: Python<'_>, columns: matching::Columns) -> Columns<'_> {
    let matching::Columns { query, database, distance } = columns;
    (query.into_pyarray(py), database.into_pyarray(py), distance.into_pyarray(py))
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

/// What one thread keeps between calls: a query is mostly matched with one image after the other.
#[derive(Default)]
struct Last {
    codes: Vec<u8>,
    block: Option<QueryBlock>,
    level: Option<Level>,
    workspace: matching::Workspace,
}

/// Nothing is kept of calls with more bytes of codes than this on a side.
const KEPT: usize = 1 << 20;
/// Pairs of descriptors that take a few microseconds: letting go of the GIL would cost as much.
const TINY: usize = 1 << 18;

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

impl Last {
    /// The block of a query: the last one if it is the same.
    fn block(&mut self, query: &[u8], bytes: usize) -> Result<QueryBlock> {
        let level = level::active()?;
        let same =
            |block: &QueryBlock| block.bytes() == bytes && self.level == Some(level) && self.codes == query;
        if let Some(block) = self.block.take().filter(same) {
            return Ok(block);
        }
        self.codes.clear();
        self.codes.extend_from_slice(query);
        self.level = Some(level);
        QueryBlock::new(query, bytes)
    }
}

/// None if an argument needs conversion first; else the three columns.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the signature Python calls")]
fn match_codes<'py>(
    py: Python<'py>,
    query_codes: &Bound<'py, PyAny>,
    database_codes: &Bound<'py, PyAny>,
    max_distance: &Bound<'py, PyAny>,
    ratio: &Bound<'py, PyAny>,
    mutual: &Bound<'py, PyAny>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let (Some(query_codes), Some(database_codes)) = (plain(query_codes), plain(database_codes)) else {
        return Ok(None);
    };
    let numbers = (ready_count(max_distance), ready_real(ratio), ready_flag(mutual));
    let (Some(max_distance), Some(ratio), Some(mutual)) = numbers else { return Ok(None) };
    let (bytes, found) = (query_codes.shape()[1], database_codes.shape()[1]);
    let options = match_options(max_distance, ratio, mutual).map_err(to_python)?;
    same_length("database_codes", bytes, found).map_err(to_python)?;
    let units = query_codes.shape()[0].saturating_mul(database_codes.shape()[0]);
    let queries = query_codes.shape()[0];
    if units <= TINY && query_codes.len().max(database_codes.len()) <= KEPT {
        // SAFETY: C-contiguous bytes. Nobody writes into them: this thread has the GIL until the slices are gone, and
        // without it only imports write bytes, into arrays that nobody else has yet.
        let (query, database) = unsafe { (query_codes.as_slice()?, database_codes.as_slice()?) };
        check_callable(py, progress.as_ref())?;
        let found = LAST.with_borrow_mut(|last| {
            let block = last.block(query, bytes).map_err(to_python)?;
            // Where every query descriptor has a correspondence, the memory comes while they are searched.
            let all =
                !options.filters() && usize::from(options.max_distance) >= 8 * bytes && !database.is_empty();
            let early = all.then(|| Found::new(py, block.len()));
            let count =
                in_standard(|| last.workspace.search(query, &block, database, &options, &Control::new()))
                    .map_err(to_python)?;
            let mut found = early.unwrap_or_else(|| Found::new(py, count));
            last.workspace.write(&block, &options, found.columns());
            last.block = Some(block);
            found.rows()
        })?;
        if let Some(callback) = &progress {
            callback.call1(py, (queries,))?;
        }
        return Ok(Some(found));
    }
    let (query_codes, database_codes) = (query_codes.try_readonly()?, database_codes.try_readonly()?);
    let (query, _) = matrix("query_codes", &query_codes)?;
    let (database, _) = matrix("database_codes", &database_codes)?;
    let work = |control: &Control| {
        let (block, mut workspace) = (QueryBlock::new(query, bytes)?, matching::Workspace::default());
        let count = workspace.search(query, &block, database, &options, control)?;
        Ok((block, workspace, count))
    };
    let (block, workspace, count) = if units <= SHORT {
        call_short(py, progress.as_ref(), |_| queries as u64, work)?
    } else {
        let counted = |control: &Control| control.parts().min(queries as u64);
        call_counting(py, threads, progress.as_ref(), counted, work)?
    };
    let mut found = Found::new(py, count);
    workspace.write(&block, &options, found.columns());
    found.rows().map(Some)
}

/// Three columns, rows of one array that nobody has seen, uninitialised at first.
struct Found<'py>(Bound<'py, PyArray2<i32>>);

impl<'py> Found<'py> {
    fn new(py: Python<'py>, count: usize) -> Self {
        // SAFETY: the values are only taken for initialised by `rows`.
        let mut found = Self(unsafe { PyArray2::new(py, [3, count], false) });
        found.columns().into_iter().for_each(prefetch);
        found
    }

    fn columns(&mut self) -> [&mut [MaybeUninit<i32>]; 3] {
        let count = self.0.shape()[1];
        // SAFETY: an array of this length that is only reached by `self`.
        let values = unsafe { std::slice::from_raw_parts_mut(self.0.data().cast(), 3 * count) };
        let (query, rest) = values.split_at_mut(count);
        let (database, distance) = rest.split_at_mut(count);
        [query, database, distance]
    }

    /// To be called when all columns have been written, which [`matching::Workspace::write`] does.
    fn rows(self) -> PyResult<Bound<'py, PyTuple>> {
        // SAFETY: arrays have the sequence protocol, which is all that is asked of them; they are only not registered
        // with `collections.abc`.
        let rows = unsafe { self.0.cast_unchecked::<PySequence>() };
        PyTuple::new(self.0.py(), [rows.get_item(0)?, rows.get_item(1)?, rows.get_item(2)?])
    }
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
    Ok((offsets.into_pyarray(py), arrays(py, matches)))
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
