//! Spatial verification of arrays.

use std::cell::Cell;

use ilias_fast_core::rerank::verification::instances::{Instance, instances};
use ilias_fast_core::rerank::verification::models::Family;
use ilias_fast_core::rerank::verification::models::homography::Homography;
use ilias_fast_core::rerank::verification::{self, Geometry, Hypotheses, Options, Workspace};
use ilias_fast_core::{Error, Result};
use numpy::ndarray::aview2;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2, ToPyArray};
use pyo3::prelude::*;

use super::call_pair;
use crate::arrays::{matrix, ready, ready_real};
use crate::error::to_python;

/// A map as a 2 x 3 matrix, or 3 x 3 if homographies were asked for.
pub type Model<'py> = Option<Bound<'py, PyArray2<f64>>>;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(verify_spatial, module)?)?;
    module.add_function(wrap_pyfunction!(verify_instances, module)?)
}

/// The map of a verification, row by row: six numbers, or nine of the family of homographies; empty without one.
pub fn entries(found: &verification::Verification, family: Family) -> Vec<f64> {
    let Some(affine) = &found.model else { return Vec::new() };
    if family == Family::Homography {
        found.homography.unwrap_or_else(|| Homography::from_affine(affine)).0.to_vec()
    } else {
        affine.0.to_vec()
    }
}

pub fn model<'py>(
    py: Python<'py>,
    found: &verification::Verification,
    family: Family,
) -> PyResult<Model<'py>> {
    let entries = entries(found, family);
    let rows = entries.len() / 3;
    (rows > 0).then(|| entries.into_pyarray(py).reshape([rows, 3])).transpose()
}

/// The family of that name.
pub fn family_of(name: &str) -> Result<Family> {
    match name {
        "translation" => Ok(Family::Translation),
        "similarity" => Ok(Family::Similarity),
        "affine" => Ok(Family::Affine),
        "homography" => Ok(Family::Homography),
        other => {
            let expected = "'translation', 'similarity', 'affine' or 'homography'";
            Err(Error::parameter("model", expected, format!("{other:?}")))
        }
    }
}

/// The hypotheses of that name.
pub fn hypotheses_of(name: &str) -> Result<Hypotheses> {
    match name {
        "similarity" => Ok(Hypotheses::Similarity),
        "translation" => Ok(Hypotheses::Translation),
        other => {
            let expected = "'similarity' or 'translation'";
            Err(Error::parameter("hypotheses", expected, format!("{other:?}")))
        }
    }
}

/// The threshold, the hypotheses and the family of a verification.
#[derive(FromPyObject)]
struct Fields(f64, String, String);

impl Fields {
    fn options(&self) -> Result<Options> {
        Ok(Options {
            hypotheses: hypotheses_of(&self.1)?,
            family: family_of(&self.2)?,
            ..Options::within(self.0)
        })
    }
}

/// Fills `out` with the correspondences `[x, y, u, v]` of two matrices of two columns.
fn correspond(
    (query, width): (&[f32], usize),
    (database, other_width): (&[f32], usize),
    out: &mut Vec<[f32; 4]>,
) -> Result<()> {
    for (what, columns) in [("query_xy", width), ("database_xy", other_width)] {
        if columns != 2 {
            return Err(Error::shape(what, "[t, 2]", format!("{columns} columns")));
        }
    }
    if query.len() != database.len() {
        let expected = format!("[{}, 2], one row for each of query_xy", query.len() / 2);
        return Err(Error::shape("database_xy", expected, format!("[{}, 2]", database.len() / 2)));
    }
    let pairs = query.as_chunks::<2>().0.iter().zip(database.as_chunks::<2>().0);
    out.clear();
    out.extend(pairs.map(|(q, d)| [q[0], q[1], d[0], d[1]]));
    Ok(())
}

/// The ratio of scales and difference of angles of correspondences.
fn ratios(count: usize, query: &[f32], database: &[f32]) -> Result<Vec<[f64; 2]>> {
    for (what, values) in [("query_geometry", query), ("database_geometry", database)] {
        if values.len() != 2 * count {
            let expected = format!("[{count}, 2], scale and angle of each correspondence");
            return Err(Error::shape(what, expected, format!("{} values", values.len())));
        }
    }
    let pairs = query.chunks_exact(2).zip(database.chunks_exact(2));
    Ok(pairs.map(|(q, d)| [f64::from(d[0]) / f64::from(q[0]), f64::from(d[1]) - f64::from(q[1])]).collect())
}

/// What a thread keeps between calls, as it mostly verifies one pair after the other.
#[derive(Default)]
struct Kept {
    correspondences: Vec<[f32; 4]>,
    workspace: Workspace,
}

thread_local! {
    /// None while it is in use: a signal handler may verify a pair of its own.
    static KEPT: Cell<Option<Box<Kept>>> = const { Cell::new(None) };
}

type Verified<'py> = (usize, Model<'py>, Bound<'py, PyArray1<bool>>);

/// None if an argument needs conversion first.
#[pyfunction]
fn verify_spatial<'py>(
    py: Python<'py>,
    query_xy: &Bound<'py, PyAny>,
    database_xy: &Bound<'py, PyAny>,
    threshold: &Bound<'py, PyAny>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Option<Verified<'py>>> {
    let (Some(query), Some(database)) = (ready(query_xy)?, ready(database_xy)?) else { return Ok(None) };
    let Some(threshold) = ready_real(threshold) else { return Ok(None) };
    let (query, database) = (matrix("query_xy", &query)?, matrix("database_xy", &database)?);
    let mut kept = KEPT.take().unwrap_or_default();
    let found = call_pair(py, query.0.len().saturating_mul(1000), threads, progress.as_ref(), |control| {
        let Kept { correspondences, workspace } = &mut *kept;
        correspond(query, database, correspondences)?;
        let found =
            verification::verify(correspondences, None, &Options::within(threshold), workspace, control)?;
        control.advance(1)?;
        Ok(found)
    })?;
    let map = found.model.map(|map| {
        let [a, b, c, d, e, f] = map.0;
        aview2(&[[a, b, c], [d, e, f]]).to_pyarray(py)
    });
    let mask = PyArray1::from_slice(py, &kept.workspace.mask);
    KEPT.set(Some(kept));
    Ok(Some((found.inliers, map, mask)))
}

type Found<'py> = (usize, Model<'py>, Bound<'py, PyArray1<bool>>, f64, usize);

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the signature Python calls")]
fn verify_instances<'py>(
    py: Python<'py>,
    query_xy: PyReadonlyArray2<'py, f32>,
    database_xy: PyReadonlyArray2<'py, f32>,
    geometry: Option<(PyReadonlyArray2<'py, f32>, PyReadonlyArray2<'py, f32>)>,
    fields: Fields,
    most: usize,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Vec<Found<'py>>> {
    let query = matrix("query_xy", &query_xy)?;
    let database = matrix("database_xy", &database_xy)?;
    let columns = match &geometry {
        None => None,
        Some((query, database)) => {
            Some((matrix("query_geometry", query)?.0, matrix("database_geometry", database)?.0))
        }
    };
    let options = fields.options().map_err(to_python)?;
    // Everything is compared with everything where chance is to be judged.
    let units = query.0.len().saturating_mul(query.0.len().max(1000));
    let found = call_pair(py, units, threads, progress.as_ref(), |control| {
        let mut correspondences = Vec::new();
        correspond(query, database, &mut correspondences)?;
        let ratios = match columns {
            None => None,
            Some((query, database)) => Some(ratios(correspondences.len(), query, database)?),
        };
        let geometry = ratios.as_deref().map(|ratios| Geometry { ratios });
        instances(&correspondences, geometry, &options, most, &mut Workspace::default(), control)
    })?;
    found
        .into_iter()
        .map(|instance| {
            let Instance { verification, mask, score } = instance;
            let map = model(py, &verification, options.family)?;
            Ok((verification.inliers, map, mask.into_pyarray(py), score, verification.hypotheses))
        })
        .collect()
}
