//! Bindings of `ilias_fast_core::adapt`.

use half::f16;
use ilias_fast_core::Result;
use ilias_fast_core::adapt::{Halves, Input, Layer, Length, Output, Signs, Vectors};
use numpy::{
    Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use crate::arrays::{matrix, vector};
use crate::call::call;
use crate::error::to_python;

/// An affine map, packed for the kernels.
#[pyclass(frozen, name = "Layer", module = "ilias_fast._core")]
pub struct PyLayer {
    inner: Layer,
}

impl PyLayer {
    fn rows<'py, T: Input + Element, O: Output>(
        &self,
        py: Python<'py>,
        rows: &PyReadonlyArray2<'py, T>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray2<O::Item>>>
    where
        O::Item: Element + Default,
    {
        let (values, columns) = matrix("vectors", rows)?;
        if columns != self.inner.depth() {
            let expected = format!("{} columns", self.inner.depth());
            return Err(to_python(ilias_fast_core::Error::shape("vectors", expected, columns.to_string())));
        }
        let (count, places) = (rows.shape()[0], O::places(self.inner.width()));
        let out = call(py, threads, None, |control| -> Result<Vec<O::Item>> {
            let mut out = vec![O::Item::default(); count * places];
            self.inner.apply::<T, O>(values, &mut out, control)?;
            Ok(out)
        })?;
        PyArray1::from_vec(py, out).reshape([count, places])
    }

    fn any<'py, O: Output>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray2<O::Item>>>
    where
        O::Item: Element + Default,
    {
        match rows.extract::<PyReadonlyArray2<'py, f16>>() {
            Ok(halves) => self.rows::<f16, O>(py, &halves, threads),
            Err(_) => self.rows::<f32, O>(py, &rows.extract()?, threads),
        }
    }
}

#[pymethods]
impl PyLayer {
    #[new]
    #[pyo3(signature = (weight, bias, mean, before, after))]
    #[expect(clippy::needless_pass_by_value, reason = "the signature Python calls")]
    fn new(
        weight: PyReadonlyArray2<'_, f32>,
        bias: Option<PyReadonlyArray1<'_, f32>>,
        mean: Option<PyReadonlyArray1<'_, f32>>,
        before: Option<(f32, f32)>,
        after: Option<(f32, f32)>,
    ) -> PyResult<Self> {
        let (values, columns) = matrix("weight", &weight)?;
        let bias = bias.as_ref().map(|bias| vector("bias", bias)).transpose()?;
        let mean = mean.as_ref().map(|mean| vector("mean", mean)).transpose()?;
        let length = |given: Option<(f32, f32)>| given.map(|(added, least)| Length { added, least });
        Layer::new(values, columns, bias, mean, length(before), length(after))
            .map(|inner| Self { inner })
            .map_err(to_python)
    }

    /// The results of float16 or float32 rows, as float32.
    fn vectors<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        self.any::<Vectors>(py, rows, threads)
    }

    /// The same, rounded to float16.
    fn halves<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray2<f16>>> {
        self.any::<Halves>(py, rows, threads)
    }

    /// Their signs, packed.
    fn signs<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray2<u8>>> {
        self.any::<Signs>(py, rows, threads)
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyLayer>()
}
