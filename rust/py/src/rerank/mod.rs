//! Bindings of `ilias_fast_core::rerank`: arrays in `matching` and `verification`, stores here.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands over owned arguments")]

mod matching;
mod verification;

use ilias_fast_core::kernels::nearest::QueryBlock;
use ilias_fast_core::rerank::descriptors::Descriptors;
use ilias_fast_core::rerank::options::{SpatialOptions, SpatialScore, Truncation};
use ilias_fast_core::rerank::shortlist::Shortlists;
use ilias_fast_core::rerank::spatial::SpatialResult;
use ilias_fast_core::rerank::verification::models::Family;
use ilias_fast_core::rerank::{shortlist, spatial, stores};
use ilias_fast_core::{Control, Error, Result};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::{matrix, vector};
use crate::call::{call, call_short};
use crate::error::to_python;
use crate::store::PyStore;

use matching::{Columns, columns, match_options};
use verification::{Model, entries, family_of, hypotheses_of, model};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    matching::register(module)?;
    verification::register(module)?;
    module.add_function(wrap_pyfunction!(verify_pair, module)?)?;
    module.add_function(wrap_pyfunction!(rerank_chamfer, module)?)?;
    module.add_function(wrap_pyfunction!(rerank_spatial, module)?)?;
    module.add_function(wrap_pyfunction!(rerank_both, module)?)
}

/// Units of work, descriptor pairs or the like, that take a few milliseconds.
const SHORT: usize = 1 << 24;

/// Runs the work of one pair of images: here, without the GIL, if it is short; else as any long call.
fn call_pair<T: Send>(
    py: Python<'_>,
    units: usize,
    threads: Option<usize>,
    progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&Control) -> Result<T> + Send,
) -> PyResult<T> {
    if units > SHORT {
        call(py, threads, progress, work)
    } else {
        call_short(py, progress, Control::done, work)
    }
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

/// The core's options from the fields of the Python dataclass, in its order.
#[derive(FromPyObject)]
struct SpatialFields(i64, f64, bool, f64, i64, String, bool, String, String);

impl SpatialFields {
    fn options(&self, truncation: Truncation) -> Result<SpatialOptions> {
        let Self(max_distance, ratio, mutual, threshold, min_inliers, score, geometry, hypotheses, family) =
            self;
        let options = SpatialOptions {
            matching: match_options(*max_distance, *ratio, *mutual)?,
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
            hypotheses: hypotheses_of(hypotheses)?,
            family: family_of(family)?,
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
    let options = options.options(Truncation::default()).map_err(to_python)?;
    let (result, workspace) =
        call_pair(py, query.len().saturating_mul(database.len()), None, None, |control| {
            same_length("database codes", query.bytes, database.bytes)?;
            let mut workspace = spatial::Workspace::default();
            let block = QueryBlock::new(query.codes, query.bytes)?;
            let result = spatial::verify_pair(&query, &block, &database, &options, &mut workspace, control)?;
            Ok((result, workspace))
        })?;
    let mask = workspace.verification.mask.into_pyarray(py);
    Ok((
        columns(py, &workspace.matches),
        mask,
        model(py, &result.verification, options.family)?,
        result.score,
    ))
}

/// The number of descriptors used of a query and of a database image; None is all.
fn truncation((query, database): (Option<usize>, Option<usize>)) -> Truncation {
    Truncation { query: query.unwrap_or(usize::MAX), database: database.unwrap_or(usize::MAX) }
}

/// Which rows are compared with which.
fn shortlists<'a>(
    query_rows: &'a PyReadonlyArray1<'_, i64>,
    offsets: &'a PyReadonlyArray1<'_, i64>,
    rows: &'a PyReadonlyArray1<'_, i64>,
) -> PyResult<Shortlists<'a>> {
    Ok(Shortlists {
        queries: vector("query_rows", query_rows)?,
        offsets: vector("offsets", offsets)?,
        rows: vector("rows", rows)?,
    })
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
    let shortlists = shortlists(&query_rows, &offsets, &rows)?;
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

/// Scores, inliers, tentative correspondences, and six numbers of each model, nine of homographies (NaN without one).
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
    let shortlists = shortlists(&query_rows, &offsets, &rows)?;
    let (queries, database) = (&*queries.inner, &*database.inner);
    let options = options.options(truncation(descriptors)).map_err(to_python)?;
    let results = call(py, threads, progress.as_ref(), |control| {
        stores::check_compatible(queries, database)?;
        shortlist::spatial(&shortlists, queries, database, &options, control)
    })?;
    Ok(spatial_columns(py, results.iter(), options.family))
}

/// The same after Chamfer similarities of the first `summed` query descriptors, from one pass over the codes.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the signature Python calls")]
fn rerank_both<'py>(
    py: Python<'py>,
    queries: &PyStore,
    database: &PyStore,
    query_rows: PyReadonlyArray1<'py, i64>,
    offsets: PyReadonlyArray1<'py, i64>,
    rows: PyReadonlyArray1<'py, i64>,
    options: SpatialFields,
    descriptors: (Option<usize>, Option<usize>),
    summed: Option<usize>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Bound<'py, PyArray1<f32>>, SpatialColumns<'py>)> {
    let shortlists = shortlists(&query_rows, &offsets, &rows)?;
    let (queries, database) = (&*queries.inner, &*database.inner);
    let options = options.options(truncation(descriptors)).map_err(to_python)?;
    let summed = summed.unwrap_or(usize::MAX);
    let results = call(py, threads, progress.as_ref(), |control| {
        stores::check_compatible(queries, database)?;
        shortlist::both(&shortlists, queries, database, &options, summed, control)
    })?;
    let similarities: Vec<f32> = results.iter().map(|(similarity, _)| *similarity).collect();
    let verified = results.iter().map(|(_, verified)| verified);
    Ok((similarities.into_pyarray(py), spatial_columns(py, verified, options.family)))
}

fn spatial_columns<'a, 'py>(
    py: Python<'py>,
    results: impl Iterator<Item = &'a SpatialResult> + Clone,
    family: Family,
) -> SpatialColumns<'py> {
    let scores: Vec<f32> = results.clone().map(|result| result.score).collect();
    let inliers: Vec<i32> = results.clone().map(|result| result.verification.inliers as i32).collect();
    let tentative: Vec<i32> = results.clone().map(|result| result.tentative as i32).collect();
    let size = if family == Family::Homography { 9 } else { 6 };
    let models: Vec<f64> = results
        .flat_map(|result| {
            let mut entries = entries(&result.verification, family);
            entries.resize(size, f64::NAN);
            entries
        })
        .collect();
    (scores.into_pyarray(py), inliers.into_pyarray(py), tentative.into_pyarray(py), models.into_pyarray(py))
}
