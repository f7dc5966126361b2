//! Bindings of `ilias_fast_core::store`.
#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands over owned arguments")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use half::f16;
use ilias_fast_core::store::{self, Batch, Kind, LocalBatch, Optional, Spec, Store, Writer};
use ilias_fast_core::{Control, Error, Result};
use numpy::ndarray::{ArrayView1, ArrayView2};
use numpy::{
    Element, IntoPyArray, PyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
};
use pyo3::prelude::*;

use crate::arrays::{matrix, vector};
use crate::call::call;
use crate::error::to_python;

/// Batches below this many bytes are appended on the calling thread.
const SMALL_BATCH: usize = 8 << 20;

/// One committed state of a store.
#[pyclass(frozen, name = "Store", module = "ilias_fast._core")]
pub struct PyStore {
    pub inner: Arc<Store>,
}

type Local<'py> = (
    Bound<'py, PyArray2<u8>>,
    Bound<'py, PyArray2<f32>>,
    Option<Bound<'py, PyArray1<f32>>>,
    Option<Bound<'py, PyArray1<f32>>>,
    Option<Bound<'py, PyArray1<f32>>>,
    (u32, u32),
);
type Damages = Vec<(String, Vec<String>, u64, u64, String)>;

/// A read-only `numpy.ndarray` over `elements`, which belong to the maps of `owner`.
fn view2<'py, T: Element>(
    owner: &Bound<'py, PyStore>,
    elements: &[T],
    columns: usize,
) -> PyResult<Bound<'py, PyArray2<T>>> {
    let view = ArrayView2::from_shape((elements.len() / columns, columns), elements)
        .map_err(|cause| to_python(Error::shape("shard", "whole rows", cause.to_string())))?;
    // SAFETY: `elements` lies in a map that `owner` (frozen, holding an Arc of the store) never drops or remaps;
    // the array keeps `owner` alive as its base.
    let array = unsafe { PyArray2::borrow_from_array(&view, owner.clone().into_any()) };
    read_only(array)
}

/// As [`view2`], for a vector.
fn view1<'py>(owner: &Bound<'py, PyStore>, elements: &[f32]) -> PyResult<Bound<'py, PyArray1<f32>>> {
    // SAFETY: as in `view2`.
    let array = unsafe { PyArray1::borrow_from_array(&ArrayView1::from(elements), owner.clone().into_any()) };
    read_only(array)
}

/// The pages are mapped read-only: a write would kill the process, so the array must refuse it.
fn read_only<T: Element, D>(array: Bound<'_, PyArray<T, D>>) -> PyResult<Bound<'_, PyArray<T, D>>> {
    array.call_method1("setflags", (false,))?;
    Ok(array)
}

fn rows_of(store: &Store, rows: &[i64]) -> Result<Vec<usize>> {
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

    /// The vectors of each shard, without a copy.
    fn vectors<'py>(slf: &Bound<'py, Self>) -> PyResult<Vec<Bound<'py, PyArray2<f16>>>> {
        let store = &slf.get().inner;
        let shards = store.vectors().map_err(to_python)?;
        shards.into_iter().map(|shard| view2(slf, shard, store.dim())).collect()
    }

    /// The codes of each shard, without a copy.
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
            view2(slf, local.codes, store.code_bytes())?,
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

/// The writer of a store; every method but `close` fails once it is closed.
#[pyclass(frozen, name = "StoreWriter", module = "ilias_fast._core")]
pub struct PyWriter {
    inner: Mutex<Option<Writer>>,
}

impl PyWriter {
    fn new(writer: Writer, shard_bytes: Option<usize>) -> Result<Self> {
        let mut writer = writer;
        shard_bytes.map_or(Ok(()), |bytes| writer.set_shard_bytes(bytes))?;
        Ok(Self { inner: Mutex::new(Some(writer)) })
    }

    fn locked(&self) -> MutexGuard<'_, Option<Writer>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a batch of `bytes` bytes. Small ones, as extraction makes them, are not worth the two thread
    /// switches of `call`; the one shard they may complete is written in well under a second.
    fn append(
        &self,
        py: Python<'_>,
        bytes: usize,
        work: impl FnOnce(&mut Writer, &Control) -> Result<()> + Send,
    ) -> PyResult<()> {
        if bytes < SMALL_BATCH {
            return py.detach(|| self.with(|writer| work(writer, &Control::new()))).map_err(to_python);
        }
        call(py, Some(1), None, |control| self.with(|writer| work(writer, control)))
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
        match self.locked().as_mut() {
            Some(writer) => use_it(writer),
            None => Err(Error::parameter("writer", "an open writer", "a closed one")),
        }
    }
}

#[pymethods]
impl PyWriter {
    #[staticmethod]
    #[pyo3(signature = (path, kind, length, optional, provenance, parent, overwrite, shard_bytes))]
    #[expect(clippy::too_many_arguments, reason = "the Python layer is the only caller")]
    fn create(
        py: Python<'_>,
        path: PathBuf,
        kind: &str,
        length: usize,
        optional: Vec<String>,
        provenance: &str,
        parent: Option<&str>,
        overwrite: bool,
        shard_bytes: Option<usize>,
    ) -> PyResult<Self> {
        py.detach(|| {
            let spec = Spec::new(Kind::from_name(kind)?, length, Optional::from_names(&optional)?)?;
            Self::new(Writer::create(&path, spec, provenance, parent, overwrite)?, shard_bytes)
        })
        .map_err(to_python)
    }

    #[staticmethod]
    #[pyo3(signature = (path, shard_bytes))]
    fn append_to(py: Python<'_>, path: PathBuf, shard_bytes: Option<usize>) -> PyResult<Self> {
        py.detach(|| Self::new(Writer::open_append(&path)?, shard_bytes)).map_err(to_python)
    }

    /// Kind, dim, bits, optional tensors.
    fn spec(&self) -> PyResult<(&'static str, usize, usize, Vec<&'static str>)> {
        self.with(|writer| {
            let spec = writer.spec();
            Ok((spec.kind().name(), spec.dim(), spec.bits(), spec.optional().names()))
        })
        .map_err(to_python)
    }

    fn __len__(&self) -> PyResult<usize> {
        self.with(|writer| Ok(writer.len())).map_err(to_python)
    }

    #[getter]
    fn provenance(&self) -> PyResult<String> {
        self.with(|writer| Ok(writer.provenance().to_owned())).map_err(to_python)
    }

    fn set_provenance(&self, provenance: &str) -> PyResult<()> {
        self.with(|writer| writer.set_provenance(provenance)).map_err(to_python)
    }

    fn contains(&self, py: Python<'_>, ids: Vec<String>) -> PyResult<Vec<bool>> {
        py.detach(|| self.with(|writer| writer.contains(&ids))).map_err(to_python)
    }

    fn append_vectors(
        &self,
        py: Python<'_>,
        ids: Vec<String>,
        vectors: PyReadonlyArray2<'_, f16>,
    ) -> PyResult<()> {
        let (elements, columns) = matrix("vectors", &vectors)?;
        self.append(py, size_of_val(elements), |writer, control| {
            check_columns("vectors", columns, writer.spec().dim())?;
            writer.append(&ids, &Batch::Global(elements), control)
        })
    }

    fn append_codes(
        &self,
        py: Python<'_>,
        ids: Vec<String>,
        codes: PyReadonlyArray2<'_, u8>,
    ) -> PyResult<()> {
        let (elements, columns) = matrix("codes", &codes)?;
        self.append(py, elements.len(), |writer, control| {
            check_columns("codes", columns, writer.spec().code_bytes())?;
            writer.append(&ids, &Batch::Binary(elements), control)
        })
    }

    #[pyo3(signature = (ids, offsets, codes, xy, scale, angle, weight, size))]
    #[expect(clippy::too_many_arguments, reason = "the tensors of a local store")]
    fn append_local(
        &self,
        py: Python<'_>,
        ids: Vec<String>,
        offsets: PyReadonlyArray1<'_, i64>,
        codes: PyReadonlyArray2<'_, u8>,
        xy: PyReadonlyArray2<'_, f32>,
        scale: Option<PyReadonlyArray1<'_, f32>>,
        angle: Option<PyReadonlyArray1<'_, f32>>,
        weight: Option<PyReadonlyArray1<'_, f32>>,
        size: PyReadonlyArray2<'_, i32>,
    ) -> PyResult<()> {
        let (codes, code_bytes) = matrix("codes", &codes)?;
        let (xy, xy_columns) = matrix("xy", &xy)?;
        let (size, size_columns) = matrix("size", &size)?;
        let batch = LocalBatch {
            offsets: vector("offsets", &offsets)?,
            codes,
            xy,
            scale: scale.as_ref().map(|values| vector("scale", values)).transpose()?,
            angle: angle.as_ref().map(|values| vector("angle", values)).transpose()?,
            weight: weight.as_ref().map(|values| vector("weight", values)).transpose()?,
            size,
        };
        self.append(py, codes.len(), |writer, control| {
            check_columns("codes", code_bytes, writer.spec().code_bytes())?;
            check_columns("xy", xy_columns, 2)?;
            check_columns("size", size_columns, 2)?;
            writer.append(&ids, &Batch::Local(batch), control)
        })
    }

    fn commit(&self, py: Python<'_>) -> PyResult<usize> {
        py.detach(|| self.with(Writer::commit)).map_err(to_python)
    }

    /// Ends the writer; what was not committed is dropped.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.locked().take()));
    }

    #[getter]
    fn closed(&self) -> bool {
        self.locked().is_none()
    }
}

fn check_columns(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::shape(what, format!("{expected} columns"), format!("{found} columns")))
}

/// Checks every byte; returns damages (file, tensors, start, end, detail), leftovers, shards and bytes checked.
#[pyfunction]
#[pyo3(signature = (path, quick, threads, progress))]
fn verify_store(
    py: Python<'_>,
    path: PathBuf,
    quick: bool,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Damages, Vec<String>, usize, u64)> {
    let report = call(py, threads, progress.as_ref(), |control| store::verify(&path, quick, control))?;
    let damages = report
        .damages
        .into_iter()
        .map(|damage| (damage.file, damage.tensors, damage.start, damage.end, damage.detail))
        .collect();
    Ok((damages, report.leftovers, report.shards, report.bytes))
}

/// Removes leftovers and returns their names.
#[pyfunction]
fn gc_store(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    py.detach(|| store::gc(&path)).map_err(to_python)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyStore>()?;
    module.add_class::<PyWriter>()?;
    module.add_function(wrap_pyfunction!(verify_store, module)?)?;
    module.add_function(wrap_pyfunction!(gc_store, module)?)
}
