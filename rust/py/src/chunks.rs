//! Bindings of `ilias_fast_core::chunks`.

use std::path::PathBuf;

use ilias_fast_core::Error;
use ilias_fast_core::chunks::{Filters, Grid, Shape, Stored};
use numpy::{PyReadonlyArray1, PyReadwriteArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::vector;
use crate::call::call;
use crate::error::to_python;

/// A chunked matrix in a file.
#[pyclass(frozen, name = "ChunkGrid", module = "ilias_fast._core")]
pub struct PyGrid {
    inner: Grid,
}

#[pymethods]
impl PyGrid {
    /// `shape` is (rows, columns, bytes of an element, rows of a chunk, columns of a chunk). The arrays have one
    /// entry a chunk; bit 0 of `filters` means deflated, bit 1 shuffled; a size of 0 means never written.
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands over owned arguments")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        shape: (usize, usize, usize, usize, usize),
        offsets: PyReadonlyArray1<'_, i64>,
        sizes: PyReadonlyArray1<'_, i64>,
        filters: PyReadonlyArray1<'_, u8>,
        fill: &[u8],
    ) -> PyResult<Self> {
        let (rows, columns, item, chunk_rows, chunk_columns) = shape;
        let shape = Shape { rows, columns, item, chunk_rows, chunk_columns };
        let (offsets, sizes) = (vector("offsets", &offsets)?, vector("sizes", &sizes)?);
        let filters = vector("filters", &filters)?;
        if offsets.len() != sizes.len() || sizes.len() != filters.len() {
            let found = format!("{}, {} and {}", offsets.len(), sizes.len(), filters.len());
            return Err(to_python(Error::shape("chunks", "arrays of one length", found)));
        }
        let chunks = offsets.iter().zip(sizes).zip(filters).map(|((offset, size), filters)| Stored {
            // A negative number becomes one beyond any file, which is refused.
            offset: *offset as u64,
            size: *size as u64,
            filters: Filters { deflate: filters & 1 != 0, shuffle: filters & 2 != 0 },
        });
        let chunks = chunks.collect();
        py.detach(|| Grid::open(&path, shape, chunks, fill)).map(|inner| Self { inner }).map_err(to_python)
    }

    fn block_rows(&self, size: usize) -> usize {
        self.inner.block_rows(size)
    }

    /// Fills `out` [rows, bytes of a row] with the rows from `start` on.
    #[pyo3(signature = (start, out, threads=None, progress=None))]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands over owned arguments")]
    fn read(
        &self,
        py: Python<'_>,
        start: usize,
        mut out: PyReadwriteArray2<'_, u8>,
        threads: Option<usize>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let rows = out.shape()[0];
        let strides = format!("strides {:?}", out.strides());
        let bytes = out
            .as_slice_mut()
            .map_err(|_| to_python(Error::shape("out", "a C-contiguous array", strides)))?;
        let end = start.saturating_add(rows);
        call(py, threads, progress.as_ref(), |control| self.inner.read(start..end, bytes, control))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyGrid>()
}
