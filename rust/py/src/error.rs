//! Core errors as the exceptions of `ilias_fast.errors`.

use ilias_fast_core::Error;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

/// The Python exception for a core error.
///
/// A function and not `From`: the orphan rule keeps both types foreign here.
pub fn to_python(error: Error) -> PyErr {
    Python::attach(|py| {
        let class = match &error {
            Error::Shape { .. } => "ShapeError",
            Error::Parameter { .. } => "ParameterError",
            Error::NonFinite { .. } => "NonFiniteError",
            Error::Level { .. } => "CpuLevelError",
            Error::Io { .. } => "StorageError",
            Error::Corrupt { .. } => "CorruptStoreError",
            Error::Format { .. } => "FileFormatError",
            Error::NotAStore { .. } => "NotAStoreError",
            Error::StoreExists { .. } => "StoreExistsError",
            Error::Locked { .. } => "StoreLockedError",
            Error::Incompatible { .. } => "IncompatibleStoreError",
            Error::UnknownId { .. } => "UnknownIdError",
            Error::DuplicateId { .. } => "DuplicateIdError",
            Error::Interrupted => return PyKeyboardInterrupt::new_err(()),
            _ => "IliasFastError",
        };
        let raised =
            py.import("ilias_fast.errors").and_then(|module| module.getattr(class)).and_then(|class| {
                if let Error::Io { path, source, .. } = &error {
                    class.call1((error.to_string(), source.raw_os_error(), path))
                } else {
                    class.call1((error.to_string(),))
                }
            });
        match raised {
            Ok(exception) => PyErr::from_value(exception),
            Err(failure) => failure,
        }
    })
}
