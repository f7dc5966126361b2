//! Bindings of `ilias_fast_core::rerank`.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands over owned arguments")]

use ilias_fast_core::kernels::nearest::{QueryBlock, Scratch};
use ilias_fast_core::rerank::descriptors::Descriptors;
use ilias_fast_core::rerank::matching::{self, Match};
use ilias_fast_core::rerank::options::{MatchOptions, SpatialOptions, SpatialScore, Truncation};
use ilias_fast_core::rerank::shortlist::Shortlists;
use ilias_fast_core::rerank::{shortlist, spatial, stores, verification};
use ilias_fast_core::{Error, Result};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::{matrix, vector};
use crate::call::call;
use crate::error::to_python;
use crate::store::PyStore;

type Columns<'py> = (Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<i32>>);
type Model<'py> = Option<Bound<'py, PyArray2<f64>>>;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(match_codes, module)?)?;
    module.add_function(wrap_pyfunction!(chamfer, module)?)?;
    module.add_function(wrap_pyfunction!(verify_spatial, module)?)?;
    module.add_function(wrap_pyfunction!(verify_pair, module)?)?;
    module.add_function(wrap_pyfunction!(rerank_chamfer, module)?)?;
    module.add_function(wrap_pyfunction!(rerank_spatial, module)?)
}

/// Runs the work of one pair of images: here, without the GIL, if it is short; else as any long call.
///
/// Handing a pair to the pool costs as much as verifying it. `units` are descriptor pairs or the like; 2^24 of
/// them take a few milliseconds.
fn call_pair<T: Send>(py: Python<'_>, units: usize, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    if units <= 1 << 24 { py.detach(work).map_err(to_python) } else { call(py, Some(1), None, |_| work()) }
}

/// An error unless both sides have codes of the same number of bytes.
fn same_length(what: &str, query: usize, database: usize) -> Result<()> {
    if query == database {
        Ok(())
    } else {
        Err(Error::shape(
            what,
            format!("codes of {query} bytes, as the query's"),
            format!("{database} bytes"),
        ))
    }
}

/// A distance limit as the core takes it: no distance exceeds 512 bits, so larger limits mean the same.
fn distance_limit(max_distance: i64) -> Result<u16> {
    u64::try_from(max_distance)
        .map(|limit| limit.min(u64::from(u16::MAX - 1)) as u16)
        .map_err(|_| Error::parameter("max_distance", "0 or more bits", max_distance))
}

fn columns<'py>(py: Python<'py>, matches: &[Match]) -> Columns<'py> {
    let column = |value: fn(&Match) -> i32| matches.iter().map(value).collect::<Vec<_>>().into_pyarray(py);
    (
        column(|found| found.query as i32),
        column(|found| found.database as i32),
        column(|found| i32::from(found.distance)),
    )
}

fn model<'py>(py: Python<'py>, found: &verification::Verification) -> PyResult<Model<'py>> {
    found.model.map(|map| map.0.to_vec().into_pyarray(py).reshape([2, 3])).transpose()
}

#[pyfunction]
fn match_codes<'py>(
    py: Python<'py>,
    query_codes: PyReadonlyArray2<'py, u8>,
    database_codes: PyReadonlyArray2<'py, u8>,
    max_distance: i64,
) -> PyResult<Columns<'py>> {
    let (query, bytes) = matrix("query_codes", &query_codes)?;
    let (database, found) = matrix("database_codes", &database_codes)?;
    let matches = call_pair(py, query.len().saturating_mul(database.len()) / bytes.max(1).pow(2), || {
        same_length("database_codes", bytes, found)?;
        let options = MatchOptions::within(distance_limit(max_distance)?);
        let mut matches = Vec::new();
        let block = QueryBlock::new(query, bytes)?;
        matching::find(query, &block, database, &options, &mut Scratch::default(), &mut matches)?;
        Ok(matches)
    })?;
    Ok(columns(py, &matches))
}

#[pyfunction]
fn chamfer<'py>(
    py: Python<'py>,
    query_codes: PyReadonlyArray2<'py, u8>,
    codes: PyReadonlyArray2<'py, u8>,
    offsets: PyReadonlyArray1<'py, i64>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let (query, bytes) = matrix("query_codes", &query_codes)?;
    let (codes, found) = matrix("codes", &codes)?;
    let offsets = vector("offsets", &offsets)?;
    let scores = call(py, threads, None, |control| {
        same_length("codes", bytes, found)?;
        shortlist::chamfer_arrays(query, bytes, codes, offsets, control)
    })?;
    Ok(scores.into_pyarray(py))
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
        let found = verification::verify(&correspondences, None, threshold, &mut workspace)?;
        Ok((found, workspace.mask))
    })?;
    Ok((found.inliers, model(py, &found)?, mask.into_pyarray(py)))
}

/// The core's options from the fields of the Python dataclass, in its order.
#[derive(FromPyObject)]
struct SpatialFields(i64, f64, bool, f64, i64, String, bool);

impl SpatialFields {
    fn options(&self, truncation: Truncation) -> Result<SpatialOptions> {
        let Self(max_distance, ratio, mutual, threshold, min_inliers, score, geometry) = self;
        let options = SpatialOptions {
            matching: MatchOptions {
                max_distance: distance_limit(*max_distance)?,
                ratio: *ratio,
                mutual: *mutual,
            },
            threshold: *threshold,
            min_inliers: usize::try_from(*min_inliers)
                .map_err(|_| Error::parameter("min_inliers", "0 or more", min_inliers))?,
            score: match score.as_str() {
                "inliers" => SpatialScore::Inliers,
                "significance" => SpatialScore::Significance,
                other => {
                    return Err(Error::parameter(
                        "score",
                        "'inliers' or 'significance'",
                        format!("{other:?}"),
                    ));
                }
            },
            geometry: *geometry,
            truncation,
        };
        options.check()?;
        Ok(options)
    }
}

/// The arrays of one image: codes, positions, scale, angle, (width, height).
#[derive(FromPyObject)]
struct ImageArrays<'py>(
    PyReadonlyArray2<'py, u8>,
    PyReadonlyArray2<'py, f32>,
    Option<PyReadonlyArray1<'py, f32>>,
    Option<PyReadonlyArray1<'py, f32>>,
    [u32; 2],
);

impl ImageArrays<'_> {
    fn view(&self, what: &str) -> PyResult<Descriptors<'_>> {
        let (codes, bytes) = matrix("codes", &self.0)?;
        let (xy, columns) = matrix("xy", &self.1)?;
        if columns != 2 || bytes == 0 {
            let found = format!("codes of {bytes} bytes, xy of {columns} columns");
            return Err(to_python(Error::shape(what, "codes of 1 byte or more, xy of 2 columns", found)));
        }
        let view = Descriptors {
            codes,
            bytes,
            xy,
            scale: self.2.as_ref().map(|column| vector("scale", column)).transpose()?,
            angle: self.3.as_ref().map(|column| vector("angle", column)).transpose()?,
            size: self.4,
        };
        view.check(what).map_err(to_python)
    }
}

#[pyfunction]
fn verify_pair<'py>(
    py: Python<'py>,
    query: ImageArrays<'py>,
    database: ImageArrays<'py>,
    options: SpatialFields,
) -> PyResult<(Columns<'py>, Bound<'py, PyArray1<bool>>, Model<'py>, f32)> {
    let (query, database) = (query.view("query")?, database.view("database image")?);
    let (result, workspace) = call_pair(py, query.len().saturating_mul(database.len()), || {
        same_length("database codes", query.bytes, database.bytes)?;
        let options = options.options(Truncation::default())?;
        let mut workspace = spatial::Workspace::default();
        let block = QueryBlock::new(query.codes, query.bytes)?;
        let result = spatial::verify_pair(&query, &block, &database, &options, &mut workspace)?;
        Ok((result, workspace))
    })?;
    let mask = workspace.verification.mask.into_pyarray(py);
    Ok((columns(py, &workspace.matches), mask, model(py, &result.verification)?, result.score))
}

/// The number of descriptors used of a query and of a database image; None is all.
fn truncation((query, database): (Option<usize>, Option<usize>)) -> Truncation {
    Truncation { query: query.unwrap_or(usize::MAX), database: database.unwrap_or(usize::MAX) }
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the signature Python calls")]
fn rerank_chamfer<'py>(
    py: Python<'py>,
    queries: &PyStore,
    database: &PyStore,
    query_rows: PyReadonlyArray1<'py, i64>,
    offsets: PyReadonlyArray1<'py, i64>,
    rows: PyReadonlyArray1<'py, i64>,
    descriptors: (Option<usize>, Option<usize>),
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let shortlists = Shortlists {
        queries: vector("query_rows", &query_rows)?,
        offsets: vector("offsets", &offsets)?,
        rows: vector("rows", &rows)?,
    };
    let (queries, database) = (&*queries.inner, &*database.inner);
    let scores = call(py, threads, progress.as_ref(), |control| {
        stores::check_compatible(queries, database)?;
        shortlist::chamfer(&shortlists, queries, database, truncation(descriptors), control)
    })?;
    Ok(scores.into_pyarray(py))
}

type SpatialColumns<'py> = (
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<f64>>,
);

/// Scores, inliers, tentative correspondences, and six numbers of each model (NaN without one).
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the signature Python calls")]
fn rerank_spatial<'py>(
    py: Python<'py>,
    queries: &PyStore,
    database: &PyStore,
    query_rows: PyReadonlyArray1<'py, i64>,
    offsets: PyReadonlyArray1<'py, i64>,
    rows: PyReadonlyArray1<'py, i64>,
    options: SpatialFields,
    descriptors: (Option<usize>, Option<usize>),
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<SpatialColumns<'py>> {
    let shortlists = Shortlists {
        queries: vector("query_rows", &query_rows)?,
        offsets: vector("offsets", &offsets)?,
        rows: vector("rows", &rows)?,
    };
    let (queries, database) = (&*queries.inner, &*database.inner);
    let results = call(py, threads, progress.as_ref(), |control| {
        stores::check_compatible(queries, database)?;
        let options = options.options(truncation(descriptors))?;
        shortlist::spatial(&shortlists, queries, database, &options, control)
    })?;
    let scores: Vec<f32> = results.iter().map(|result| result.score).collect();
    let inliers: Vec<i32> = results.iter().map(|result| result.verification.inliers as i32).collect();
    let tentative: Vec<i32> = results.iter().map(|result| result.tentative as i32).collect();
    let models: Vec<f64> = results
        .iter()
        .flat_map(|result| result.verification.model.map_or([f64::NAN; 6], |model| model.0))
        .collect();
    Ok((
        scores.into_pyarray(py),
        inliers.into_pyarray(py),
        tentative.into_pyarray(py),
        models.into_pyarray(py),
    ))
}
