//! Array arguments: dtype, shape and contiguity checks with both numbers in the message.
//!
//! The Python layer (`ilias_fast._arrays`) has already turned anything convertible into a C-contiguous
//! `NumPy` array of the right dtype; what is checked here is what memory safety rests on. Functions that take
//! microseconds are asked first with the arguments as given: see [`ready`].

use ilias_fast_core::Error;
use numpy::{
    Element, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};

use crate::error::to_python;

/// The elements of a C-contiguous matrix and its number of columns.
pub fn matrix<'a, T: Element>(what: &str, array: &'a PyReadonlyArray2<'_, T>) -> PyResult<(&'a [T], usize)> {
    let columns = array.shape()[1];
    array.as_slice().map(|elements| (elements, columns)).map_err(|_| {
        to_python(Error::shape(what, "a C-contiguous array", format!("strides {:?}", array.strides())))
    })
}

/// The elements of a contiguous vector.
pub fn vector<'a, T: Element>(what: &str, array: &'a PyReadonlyArray1<'_, T>) -> PyResult<&'a [T]> {
    array.as_slice().map_err(|_| {
        to_python(Error::shape(what, "a contiguous array", format!("strides {:?}", array.strides())))
    })
}

/// A matrix that needs no conversion: an array of that type, C-contiguous and aligned. None for anything else, such as a subclass
/// whose values are not all that it is (masked arrays).
pub fn plain<'a, 'py, T: Element>(value: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyArray2<T>>> {
    let exact = value.is_exact_instance_of::<PyUntypedArray>();
    exact
        .then(|| value.cast::<PyArray2<T>>().ok())
        .flatten()
        .filter(|array| array.is_c_contiguous() && array.data().is_aligned())
}

/// [`plain`], held against being written to.
pub fn ready<'py, T: Element>(value: &Bound<'py, PyAny>) -> PyResult<Option<PyReadonlyArray2<'py, T>>> {
    plain(value).map(|array| Ok(array.try_readonly()?)).transpose()
}

/// A number that needs no conversion: a float. None for anything else.
pub fn ready_real(value: &Bound<'_, PyAny>) -> Option<f64> {
    value.cast_exact::<PyFloat>().ok().map(PyFloatMethods::value)
}

/// A whole number that needs no conversion. None for anything else, and for what 64 bits cannot hold.
pub fn ready_count(value: &Bound<'_, PyAny>) -> Option<i64> {
    value.cast_exact::<PyInt>().ok().and_then(|number| number.extract().ok())
}

/// True or False, nothing else.
pub fn ready_flag(value: &Bound<'_, PyAny>) -> Option<bool> {
    value.cast_exact::<PyBool>().ok().map(PyBoolMethods::is_true)
}
