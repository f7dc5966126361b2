//! Array arguments: dtype, shape and contiguity checks with both numbers in the message.
//!
//! The Python layer (`ilias_fast._arrays`) has already turned anything convertible into a C-contiguous
//! `NumPy` array of the right dtype; what is checked here is what memory safety rests on.

use ilias_fast_core::Error;
use numpy::{Element, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

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
