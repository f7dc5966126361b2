//! Reading a store: metadata, zero-copy views, gathered rows, ids.

use std::path::PathBuf;
use std::sync::Arc;

use half::f16;
use ilias_fast_core::store::Store;
use ilias_fast_core::{Error, Result};
use numpy::ndarray::{ArrayView1, ArrayView2};
use numpy::{Element, IntoPyArray, PyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrays::vector;
use crate::call::call;
use crate::error::to_python;

/// One committed state of a store.
#[pyclass(frozen, name = "Store", module = "ilias_fast._core")]
pub struct PyStore {
    pub inner: Arc<Store>,
}

type Local<'py> = (
    Bound<'py, PyArray2<u8>>,
    Bound<'py, PyArray2<f16>>,
    Bound<'py, PyArray2<f32>>,
    Option<Bound<'py, PyArray1<f32>>>,
    Option<Bound<'py, PyArray1<f32>>>,
    Option<Bound<'py, PyArray1<f32>>>,
    (u32, u32),
);

/// A read-only `numpy.ndarray` over `elements`, which belong to the maps of `owner`.
fn view2<'py, T: Element>(
    owner: &Bound<'py, PyStore>,
    elements: &[T],
    columns: usize,
) -> PyResult<Bound<'py, PyArray2<T>>> {
    view_rows(owner, elements, elements.len() / columns, columns)
}

fn view_rows<'py, T: Element>(
    owner: &Bound<'py, PyStore>,
    elements: &[T],
    rows: usize,
    columns: usize,
) -> PyResult<Bound<'py, PyArray2<T>>> {
    let view = ArrayView2::from_shape((rows, columns), elements)
        .map_err(|cause| to_python(Error::shape("shard", "whole rows", cause.to_string())))?;
    // SAFETY: `elements` lies in a map that `owner` (frozen, holding an Arc of the store) never drops or remaps;
    // the array keeps `owner` alive as its base.
    let array = unsafe { PyArray2::borrow_from_array(&view, owner.clone().into_any()) };
    read_only(array)
}

/// As [`view2`], for a vector.
fn view1<'py, T: Element>(owner: &Bound<'py, PyStore>, elements: &[T]) -> PyResult<Bound<'py, PyArray1<T>>> {
    // SAFETY: as in `view2`.
    let array = unsafe { PyArray1::borrow_from_array(&ArrayView1::from(elements), owner.clone().into_any()) };
    read_only(array)
}

/// The pages are mapped read-only: a write would kill the process, so the array must refuse it.
fn read_only<T: Element, D>(array: Bound<'_, PyArray<T, D>>) -> PyResult<Bound<'_, PyArray<T, D>>> {
    array.call_method1("setflags", (false,))?;
    Ok(array)
}

pub fn rows_of(store: &Store, rows: &[i64]) -> Result<Vec<usize>> {
    let most = store.len();
    rows.iter()
        .map(|row| {
            usize::try_from(*row)
                .ok()
                .filter(|row| *row < most)
                .ok_or_else(|| Error::parameter("rows", format!("rows from 0 to below {most}"), row))
        })
        .collect()
}

#[pymethods]
impl PyStore {
    #[new]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = call(py, None, None, |_| Store::open(&path))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.inner.kind().name()
    }

    #[getter]
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    #[getter]
    fn bits(&self) -> usize {
        self.inner.bits()
    }

    #[getter]
    fn code_bytes(&self) -> usize {
        self.inner.code_bytes()
    }

    #[getter]
    fn optional(&self) -> Vec<&'static str> {
        self.inner.spec().optional().names()
    }

    #[getter]
    fn descriptors(&self) -> usize {
        self.inner.descriptors()
    }

    #[getter]
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }

    #[getter]
    fn starts(&self) -> Vec<usize> {
        self.inner.starts().to_vec()
    }

    #[getter]
    fn shards(&self) -> usize {
        self.inner.shards()
    }

    #[getter]
    fn deleted(&self) -> usize {
        self.inner.deleted()
    }

    /// Kind of derived tensors, number of shards that have them, bytes.
    #[getter]
    fn derived(&self) -> Vec<(&str, usize, u64)> {
        self.inner.derived()
    }

    #[getter]
    fn provenance(&self) -> &str {
        self.inner.provenance()
    }

    #[getter]
    fn parent(&self) -> Option<&str> {
        self.inner.parent()
    }

    #[getter]
    fn checksum(&self) -> String {
        format!("{:016x}", self.inner.checksum())
    }

    /// One vector, without a copy.
    fn vector<'py>(slf: &Bound<'py, Self>, row: usize) -> PyResult<Bound<'py, PyArray1<f16>>> {
        view1(slf, slf.get().inner.vector(row).map_err(to_python)?)
    }

    /// One code, without a copy.
    fn code<'py>(slf: &Bound<'py, Self>, row: usize) -> PyResult<Bound<'py, PyArray1<u8>>> {
        view1(slf, slf.get().inner.code(row).map_err(to_python)?)
    }

    /// The vectors of each run of rows of a shard, without a copy.
    fn vectors<'py>(slf: &Bound<'py, Self>) -> PyResult<Vec<Bound<'py, PyArray2<f16>>>> {
        let store = &slf.get().inner;
        let shards = store.vectors().map_err(to_python)?;
        shards.into_iter().map(|shard| view2(slf, shard, store.dim())).collect()
    }

    /// The codes of each run of rows of a shard, without a copy.
    fn codes<'py>(slf: &Bound<'py, Self>) -> PyResult<Vec<Bound<'py, PyArray2<u8>>>> {
        let store = &slf.get().inner;
        let shards = store.codes().map_err(to_python)?;
        shards.into_iter().map(|shard| view2(slf, shard, store.code_bytes())).collect()
    }

    /// The local descriptors of one image, without a copy.
    fn local<'py>(slf: &Bound<'py, Self>, row: usize) -> PyResult<Local<'py>> {
        let store = &slf.get().inner;
        let local = store.local(row).map_err(to_python)?;
        let numbers = |values: Option<&[f32]>| values.map(|values| view1(slf, values)).transpose();
        Ok((
            view_rows(slf, local.codes, local.xy.len() / 2, store.code_bytes())?,
            view_rows(slf, local.descriptors, local.xy.len() / 2, store.dim())?,
            view2(slf, local.xy, 2)?,
            numbers(local.scale)?,
            numbers(local.angle)?,
            numbers(local.weight)?,
            local.size.into(),
        ))
    }

    /// Rows of a global store, copied.
    fn gather_vectors<'py>(
        &self,
        py: Python<'py>,
        rows: PyReadonlyArray1<'_, i64>,
    ) -> PyResult<Bound<'py, PyArray2<f16>>> {
        let rows = vector("rows", &rows)?;
        let store = &self.inner;
        let out = call(py, Some(1), None, |control| {
            let rows = rows_of(store, rows)?;
            let mut out = vec![f16::ZERO; rows.len() * store.dim()];
            store.gather_vectors(&rows, &mut out, control)?;
            Ok(out)
        })?;
        out.into_pyarray(py).reshape([rows.len(), store.dim()])
    }

    /// Rows of a binary store, copied.
    fn gather_codes<'py>(
        &self,
        py: Python<'py>,
        rows: PyReadonlyArray1<'_, i64>,
    ) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let rows = vector("rows", &rows)?;
        let store = &self.inner;
        let out = call(py, Some(1), None, |control| {
            let rows = rows_of(store, rows)?;
            let mut out = vec![0; rows.len() * store.code_bytes()];
            store.gather_codes(&rows, &mut out, control)?;
            Ok(out)
        })?;
        out.into_pyarray(py).reshape([rows.len(), store.code_bytes()])
    }

    /// The ids of rows.
    fn ids(&self, rows: PyReadonlyArray1<'_, i64>) -> PyResult<Vec<&str>> {
        let rows = rows_of(&self.inner, vector("rows", &rows)?).map_err(to_python)?;
        rows.into_iter().map(|row| self.inner.id(row).map_err(to_python)).collect()
    }

    /// The row of each id, -1 where the store does not have it.
    fn find<'py>(&self, py: Python<'py>, ids: Vec<String>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let rows = py.detach(|| self.inner.find(&ids)).map_err(to_python)?;
        let rows: Vec<i64> = rows.into_iter().map(|row| row.map_or(-1, |row| row as i64)).collect();
        Ok(rows.into_pyarray(py))
    }
}
