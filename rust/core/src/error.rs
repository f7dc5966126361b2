//! The one error type of the crate.
//!
//! Every variant carries what was expected, what was found and where, as fields; its message ends with
//! what to do. The Python bindings map each variant to one exception class.

use std::path::PathBuf;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in the core.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An array has the wrong number of dimensions or a wrong extent.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The argument, as the caller knows it.
        what: String,
        /// The shape that was required.
        expected: String,
        /// The shape that was given.
        found: String,
    },
    /// A parameter lies outside its range.
    #[error("{what}: expected {expected}, found {found}")]
    Parameter {
        /// The parameter, as the caller knows it.
        what: String,
        /// The values that are allowed.
        expected: String,
        /// The value that was given.
        found: String,
    },
    /// An input holds NaN or an infinity.
    #[error(
        "{what}: row {row}, column {column} is {value}; all values must be finite (drop or repair the row)"
    )]
    NonFinite {
        /// The array, as the caller knows it.
        what: String,
        /// First offending row.
        row: usize,
        /// First offending column of that row.
        column: usize,
        /// The value found there.
        value: f32,
    },
    /// `ILIAS_FAST_CPU` or a pin names a level that does not exist or that this machine cannot run.
    #[error(
        "CPU level {found:?} is not available; this machine has: {available} (set ILIAS_FAST_CPU to one of them, or unset it)"
    )]
    Level {
        /// The level asked for.
        found: String,
        /// Comma-separated levels that can run here.
        available: String,
    },
    /// The caller asked to stop (for example by Ctrl-C).
    #[error("interrupted")]
    Interrupted,
    /// The operating system refused a file operation (disk full, read-only, missing, I/O error).
    #[error("{path}: cannot {action}: {}", in_words(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done to it, in the infinitive ("write", "open").
        action: &'static str,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A store's file is damaged, truncated, missing or not what the manifest promises.
    #[error(
        "{path}: {detail} (restore the file from a copy; `ilias-fast store verify` names all that is damaged)"
    )]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong, with expected and found values.
        detail: String,
    },
    /// The directory is not a store, or of a schema version this build cannot read.
    #[error("{path}: {detail}")]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// Expected and found.
        detail: String,
    },
    /// A file, read by the caller, is not in the format it should be in; the caller adds its name.
    #[error("{detail}")]
    Format {
        /// Expected, found and where in the file.
        detail: String,
    },
    /// `create` on a path that already holds a store or other files.
    #[error("{path}: already exists (open it to append, choose another path, or ask to overwrite)")]
    StoreExists {
        /// The path.
        path: PathBuf,
    },
    /// Another process or another writer of this process holds the write lock.
    #[error("{path}: another writer has this store open (one writer at a time; wait for it or stop it)")]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// The store is of another kind, dimension or descriptor length than the operation needs.
    #[error("{path}: expected {expected}, found {found}")]
    Incompatible {
        /// The store.
        path: PathBuf,
        /// What the operation needs.
        expected: String,
        /// What the store holds.
        found: String,
    },
    /// An id is not in the store.
    #[error("{path}: unknown id {id:?} (the store does not have it)")]
    UnknownId {
        /// The store.
        path: PathBuf,
        /// The id.
        id: String,
    },
    /// An id is given twice, or is already in the store.
    #[error("{path}: id {id:?} is given twice, or is already there{} (ids are unique; skip it or choose another)", and_more(*.more))]
    DuplicateId {
        /// The store.
        path: PathBuf,
        /// The first of them.
        id: String,
        /// How many more there are in the same batch.
        more: usize,
    },
}

fn and_more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(", and {count} more") }
}

/// What the operating system says, without the number that Rust adds.
fn in_words(error: &std::io::Error) -> String {
    let words = error.to_string();
    words.split(" (os error ").next().unwrap_or(&words).to_owned()
}

impl Error {
    /// A wrong shape.
    pub fn shape(what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Shape { what: what.into(), expected: expected.into(), found: found.into() }
    }

    /// A parameter outside its range.
    pub fn parameter(what: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Parameter { what: what.into(), expected: expected.into(), found: found.to_string() }
    }

    /// A closure that wraps an I/O error with its path and action, for `map_err`.
    pub fn io(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, action, source }
    }

    /// A damaged file.
    pub fn corrupt(path: impl Into<PathBuf>, detail: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), detail: detail.into() }
    }
}
