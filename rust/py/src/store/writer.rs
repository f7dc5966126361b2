//! Appending to a store.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use half::f16;
use ilias_fast_core::store::{Batch, Kind, LocalBatch, Optional, Spec, Writer};
use ilias_fast_core::{Control, Error, Result};
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use crate::arrays::{matrix, vector};
use crate::call::call;
use crate::error::to_python;

use super::PyStore;
use super::reader::rows_of;

/// Batches below this many bytes are appended on the calling thread.
const SMALL_BATCH: usize = 8 << 20;

/// The writer of a store; every method but `close` fails once it is closed.
#[pyclass(frozen, name = "StoreWriter", module = "ilias_fast._core")]
pub struct PyWriter {
    inner: Mutex<Option<Writer>>,
    /// The thread that waits for [`Self::append`] on another, whose signal handlers and progress callback it runs.
    waiting: Mutex<Option<ThreadId>>,
}

impl PyWriter {
    fn new(writer: Writer, shard_bytes: Option<usize>) -> Result<Self> {
        let mut writer = writer;
        shard_bytes.map_or(Ok(()), |bytes| writer.set_shard_bytes(bytes))?;
        Ok(Self { inner: Mutex::new(Some(writer)), waiting: Mutex::new(None) })
    }

    /// An error on a thread that would wait for itself: a progress callback of `append_rows`, or a signal handler while a
    /// large batch is appended, that uses the writer.
    fn locked(&self) -> Result<MutexGuard<'_, Option<Writer>>> {
        let waiting = *self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting == Some(thread::current().id()) {
            let found =
                "one in the middle of the append that called this (use it afterwards, or on another thread)";
            return Err(Error::parameter("writer", "a writer at rest", found));
        }
        Ok(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses the writer on a thread of a pool, while this one hears Ctrl-C and reports progress.
    fn call(
        &self,
        py: Python<'_>,
        progress: Option<&Py<PyAny>>,
        work: impl FnOnce(&mut Writer, &Control) -> Result<()> + Send,
    ) -> PyResult<()> {
        let caller = thread::current().id();
        call(py, Some(1), progress, |control| {
            self.with(|writer| {
                let _reset = Waiting::of(self, caller);
                work(writer, control)
            })
        })
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
            return self.waiting(py, |writer| work(writer, &Control::new()));
        }
        self.call(py, None, work)
    }

    /// Without the GIL: another thread may have the writer for long, and needs the GIL to report its progress.
    fn waiting<T: Send>(
        &self,
        py: Python<'_>,
        use_it: impl FnOnce(&mut Writer) -> Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| self.with(use_it)).map_err(to_python)
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
        self.locked()?.as_mut().map_or_else(|| Err(closed()), use_it)
    }
}

/// While it lives, a thread waits for the work of another on the writer.
struct Waiting<'a>(&'a Mutex<Option<ThreadId>>);

impl<'a> Waiting<'a> {
    fn of(writer: &'a PyWriter, caller: ThreadId) -> Self {
        let this = Self(&writer.waiting);
        this.set(Some(caller));
        this
    }

    fn set(&self, thread: Option<ThreadId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = thread;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.set(None);
    }
}

fn closed() -> Error {
    Error::parameter("writer", "an open writer", "a closed one")
}

#[pymethods]
impl PyWriter {
    #[staticmethod]
    #[pyo3(signature = (path, kind, floats, length, optional, provenance, parent, overwrite, shard_bytes))]
    #[expect(clippy::too_many_arguments, reason = "the Python layer is the only caller")]
    fn create(
        py: Python<'_>,
        path: PathBuf,
        kind: &str,
        floats: bool,
        length: usize,
        optional: Vec<String>,
        provenance: &str,
        parent: Option<&str>,
        overwrite: bool,
        shard_bytes: Option<usize>,
    ) -> PyResult<Self> {
        py.detach(|| {
            let spec = Spec::new(Kind::from_name(kind)?, floats, length, Optional::from_names(&optional)?)?;
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
    fn spec(&self, py: Python<'_>) -> PyResult<(&'static str, usize, usize, Vec<&'static str>)> {
        self.waiting(py, |writer| {
            let spec = writer.spec();
            Ok((spec.kind().name(), spec.dim(), spec.bits(), spec.optional().names()))
        })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.waiting(py, |writer| Ok(writer.len()))
    }

    #[getter]
    fn provenance(&self, py: Python<'_>) -> PyResult<String> {
        self.waiting(py, |writer| Ok(writer.provenance().to_owned()))
    }

    fn set_provenance(&self, py: Python<'_>, provenance: &str) -> PyResult<()> {
        self.waiting(py, |writer| writer.set_provenance(provenance))
    }

    fn contains(&self, py: Python<'_>, ids: Vec<PyBackedStr>) -> PyResult<Vec<bool>> {
        self.waiting(py, |writer| writer.contains(&ids))
    }

    fn append_vectors(
        &self,
        py: Python<'_>,
        ids: Vec<PyBackedStr>,
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
        ids: Vec<PyBackedStr>,
        codes: PyReadonlyArray2<'_, u8>,
    ) -> PyResult<()> {
        let (elements, columns) = matrix("codes", &codes)?;
        self.append(py, elements.len(), |writer, control| {
            check_columns("codes", columns, writer.spec().code_bytes())?;
            writer.append(&ids, &Batch::Binary(elements), control)
        })
    }

    #[pyo3(signature = (ids, offsets, codes, descriptors, xy, scale, angle, weight, size))]
    #[expect(clippy::too_many_arguments, reason = "the tensors of a local store")]
    fn append_local(
        &self,
        py: Python<'_>,
        ids: Vec<PyBackedStr>,
        offsets: PyReadonlyArray1<'_, i64>,
        codes: PyReadonlyArray2<'_, u8>,
        descriptors: PyReadonlyArray2<'_, f16>,
        xy: PyReadonlyArray2<'_, f32>,
        scale: Option<PyReadonlyArray1<'_, f32>>,
        angle: Option<PyReadonlyArray1<'_, f32>>,
        weight: Option<PyReadonlyArray1<'_, f32>>,
        size: PyReadonlyArray2<'_, i32>,
    ) -> PyResult<()> {
        let (codes, code_bytes) = matrix("codes", &codes)?;
        let (descriptors, dim) = matrix("descriptors", &descriptors)?;
        let (xy, xy_columns) = matrix("xy", &xy)?;
        let (size, size_columns) = matrix("size", &size)?;
        let batch = LocalBatch {
            offsets: vector("offsets", &offsets)?,
            codes,
            descriptors,
            xy,
            scale: scale.as_ref().map(|values| vector("scale", values)).transpose()?,
            angle: angle.as_ref().map(|values| vector("angle", values)).transpose()?,
            weight: weight.as_ref().map(|values| vector("weight", values)).transpose()?,
            size,
        };
        self.append(py, codes.len() + size_of_val(descriptors), |writer, control| {
            check_columns("codes", code_bytes, writer.spec().code_bytes())?;
            check_columns("descriptors", dim, writer.spec().dim())?;
            check_columns("xy", xy_columns, 2)?;
            check_columns("size", size_columns, 2)?;
            writer.append(&ids, &Batch::Local(batch), control)
        })
    }

    /// Deletes rows by id and commits; returns how many.
    fn delete(&self, py: Python<'_>, ids: Vec<PyBackedStr>) -> PyResult<usize> {
        self.waiting(py, |writer| writer.delete(&ids))
    }

    /// Appends rows of another store.
    #[pyo3(signature = (store, rows, progress))]
    fn append_rows(
        &self,
        py: Python<'_>,
        store: &Bound<'_, PyStore>,
        rows: PyReadonlyArray1<'_, i64>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let store = &*store.get().inner;
        let rows = vector("rows", &rows)?;
        self.call(py, progress.as_ref(), |writer, control| {
            let rows = rows_of(store, rows)?;
            writer.append_rows(store, &rows, control)
        })
    }

    /// Drops what was computed from the shards; returns how many had it.
    fn detach(&self, py: Python<'_>, kind: &str) -> PyResult<usize> {
        self.waiting(py, |writer| writer.detach(kind))
    }

    fn commit(&self, py: Python<'_>) -> PyResult<usize> {
        self.waiting(py, Writer::commit)
    }

    /// Ends the writer; what was not committed is dropped.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.locked().map(|mut writer| drop(writer.take()))).map_err(to_python)
    }

    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.locked().map(|writer| writer.is_none())).map_err(to_python)
    }
}

fn check_columns(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::shape(what, format!("{expected} columns"), format!("{found} columns")))
}
