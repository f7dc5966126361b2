//! Bindings of `ilias_fast_core::run`: ids that stay one text until somebody looks, and files of results.
#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands over owned arguments")]

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use ilias_fast_core::run::{self, Interner, Lists, Ranked, Search};
use ilias_fast_core::search::stored::ids_of;
use ilias_fast_core::store::advice::write_back;
use ilias_fast_core::{Control, Error, Result};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2, ToPyArray};
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PySlice, PyString, PyTuple};

use crate::arrays::{matrix, vector};
use crate::call::call;
use crate::error::to_python;
use crate::store::PyStore;

/// An immutable sequence of ids, kept as one text and decoded where it is looked at.
///
/// Examples:
///     >>> ids = Ids(["a.jpg", "b.jpg", "c.jpg"])
///     >>> len(ids), ids[1], list(ids[1:]), "c.jpg" in ids
///     (3, 'b.jpg', ['b.jpg', 'c.jpg'], True)
#[pyclass(frozen, sequence, module = "ilias_fast._core")]
#[expect(clippy::doc_link_with_quotes, reason = "Python reads it")]
pub struct Ids {
    list: run::Ids,
    /// The first id that is here twice, if any, once somebody has looked.
    repeated: OnceLock<Option<String>>,
}

impl From<run::Ids> for Ids {
    fn from(list: run::Ids) -> Self {
        Self { list, repeated: OnceLock::new() }
    }
}

impl Ids {
    /// Ids that are known to differ from each other.
    fn distinct(list: run::Ids) -> Self {
        Self { list, repeated: OnceLock::from(None) }
    }

    fn text(&self, position: isize) -> PyResult<&str> {
        let length = self.list.len();
        let wanted = if position < 0 { position + length as isize } else { position };
        match usize::try_from(wanted) {
            Ok(position) if position < length => Ok(self.list.get(position)),
            _ => Err(PyIndexError::new_err(format!("expected a position below {length}, found {position}"))),
        }
    }
}

#[pymethods]
impl Ids {
    /// The ids of any iterable of strings.
    #[new]
    fn new(ids: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut list = run::Ids::default();
        for (position, id) in ids.try_iter()?.enumerate() {
            let id = id?;
            // What is no string, or holds half a surrogate pair, is told apart by the caller.
            let text = id
                .cast::<PyString>()
                .ok()
                .and_then(|text| text.to_str().ok())
                .ok_or_else(|| PyTypeError::new_err(format!("{position}")))?;
            list.push(text).map_err(|_| PyTypeError::new_err(format!("{position}")))?;
        }
        Ok(list.into())
    }

    /// Ids out of one UTF-8 text and [n + 1] offsets into it.
    #[staticmethod]
    fn from_packed(text: PyReadonlyArray1<'_, u8>, offsets: PyReadonlyArray1<'_, i64>) -> PyResult<Self> {
        let (text, offsets) = (vector("text", &text)?, vector("offsets", &offsets)?);
        let unpack = || -> Result<run::Ids> {
            let text = std::str::from_utf8(text)
                .map_err(|cause| Error::Format { detail: format!("not UTF-8: {cause}") })?;
            let Some((&0, ends)) = offsets.split_first() else {
                return Err(Error::parameter(
                    "offsets",
                    "a first offset of 0",
                    format!("{:?}", offsets.first()),
                ));
            };
            // A negative offset becomes one beyond any text.
            run::Ids::new(text.to_owned(), ends.iter().map(|&end| end as u64).collect())
        };
        unpack().map(Self::from).map_err(to_python)
    }

    /// Ids out of the characters of a fixed-width Unicode array, uint32 [n, width], padded with zeros.
    #[staticmethod]
    fn from_characters(characters: PyReadonlyArray2<'_, u32>) -> PyResult<Self> {
        let (characters, width) = matrix("characters", &characters)?;
        let mut ids = run::Ids::default();
        let mut id = String::new();
        for (position, row) in characters.chunks_exact(width.max(1)).enumerate() {
            let length = row.iter().rposition(|&unit| unit != 0).map_or(0, |last| last + 1);
            id.clear();
            for &unit in &row[..length] {
                id.push(char::from_u32(unit).ok_or_else(|| PyTypeError::new_err(format!("{position}")))?);
            }
            ids.push(&id).map_err(|_| PyTypeError::new_err(format!("{position}")))?;
        }
        Ok(ids.into())
    }

    /// The UTF-8 text of all ids, and [n + 1] offsets into it.
    fn packed<'py>(&self, py: Python<'py>) -> (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<i64>>) {
        let offsets: Vec<i64> =
            std::iter::once(0).chain(self.list.ends().iter().map(|&end| end as i64)).collect();
        (self.list.text().as_bytes().to_pyarray(py), offsets.to_pyarray(py))
    }

    /// The ids at some positions.
    fn take<'py>(
        &self,
        py: Python<'py>,
        positions: PyReadonlyArray1<'_, i64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let positions = vector("positions", &positions)?;
        let texts = positions
            .iter()
            .map(|&position| {
                usize::try_from(position)
                    .map_or(Err(PyIndexError::new_err(position)), |position| self.text(position as isize))
            })
            .collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, texts)
    }

    /// int64: for each of `wanted`, its first position here, or -1.
    #[pyo3(signature = (wanted, threads=None))]
    fn locate<'py>(
        &self,
        py: Python<'py>,
        wanted: PyRef<'_, Self>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let (here, wanted) = (&self.list, &wanted.list);
        let found = call(py, threads, None, |control| {
            let mut interner = Interner::default();
            // Position in the interner -> first position here; the two part where an id is repeated.
            let mut first: Vec<i64> = Vec::new();
            for (position, id) in here.iter().enumerate() {
                if position.is_multiple_of(1 << 14) {
                    control.advance(0)?;
                }
                if interner.intern(id)? as usize == first.len() {
                    first.push(position as i64);
                }
            }
            let mut found = interner.locate(wanted, control)?;
            for position in &mut found {
                if let Ok(at) = usize::try_from(*position) {
                    *position = first[at];
                }
            }
            Ok(found)
        })?;
        Ok(found.to_pyarray(py))
    }

    /// The first id that is here twice, or None.
    fn first_repeated(&self, py: Python<'_>) -> PyResult<Option<String>> {
        if let Some(known) = self.repeated.get() {
            return Ok(known.clone());
        }
        let found = call(py, None, None, |control| run::first_repeated_id(&self.list, control))?
            .map(|position| self.list.get(position).to_owned());
        Ok(self.repeated.get_or_init(|| found).clone())
    }

    fn __len__(&self) -> usize {
        self.list.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = index.cast::<PySlice>() {
            let range = slice.indices(self.list.len() as isize)?;
            let texts = (0..range.slicelength as isize)
                .map(|step| self.list.get((range.start + step * range.step) as usize));
            return Ok(PyTuple::new(py, texts.collect::<Vec<_>>())?.into_any());
        }
        Ok(PyString::new(py, self.text(index.extract()?)?).into_any())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        PyList::new(py, self.list.iter().collect::<Vec<_>>())?.try_iter()
    }

    fn __contains__(&self, id: &Bound<'_, PyAny>) -> bool {
        id.extract::<String>().is_ok_and(|id| self.list.iter().any(|other| other == id))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        if let Ok(other) = other.cast::<Self>() {
            return self.list == other.get().list;
        }
        // A tuple or list of the same strings is the same sequence; a string is not.
        other.cast::<PyString>().is_err()
            && other.len().is_ok_and(|length| length == self.list.len())
            && other
                .extract::<Vec<String>>()
                .is_ok_and(|other| self.list.iter().eq(other.iter().map(String::as_str)))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let (text, offsets) = self.packed(py);
        let make = py.get_type::<Self>().getattr("from_packed")?;
        Ok((make, PyTuple::new(py, [text.into_any(), offsets.into_any()])?))
    }

    fn __repr__(&self) -> String {
        let mut shown: Vec<String> = self.list.iter().take(3).map(|id| format!("{id:?}")).collect();
        if self.list.len() > shown.len() {
            shown.push("...".into());
        }
        format!("Ids({} ids: {})", self.list.len(), shown.join(", "))
    }
}

/// Looks for ids in a list that is fed in pieces.
#[pyclass(frozen, module = "ilias_fast._core")]
pub struct IdSearch(Mutex<Search>);

impl IdSearch {
    fn with<T>(&self, work: impl FnOnce(&mut Search) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

#[pymethods]
impl IdSearch {
    #[new]
    fn new(wanted: PyRef<'_, Ids>) -> PyResult<Self> {
        Search::new(&wanted.list).map(|search| Self(Mutex::new(search))).map_err(to_python)
    }

    /// Reads the next piece of the list of lines.
    fn feed(&self, py: Python<'_>, piece: &[u8]) {
        py.detach(|| self.with(|search| search.feed(piece)));
    }

    /// bool: whether each of `asked` was in the list; ends the list.
    fn found<'py>(&self, py: Python<'py>, asked: PyRef<'_, Ids>) -> Bound<'py, PyArray1<bool>> {
        self.with(|search| search.found(&asked.list)).to_pyarray(py)
    }
}

/// Query ids, offsets, database ids, indices, scores.
type Read<'py> = (
    Bound<'py, PyList>,
    Bound<'py, PyArray1<i64>>,
    Ids,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<f64>>,
);

fn read<'py>(
    py: Python<'py>,
    data: &[u8],
    reader: impl FnOnce(&[u8], &Control) -> Result<Lists> + Send,
) -> PyResult<Read<'py>> {
    let lists = call(py, Some(1), None, |control| reader(data, control))?;
    Ok((
        PyList::new(py, lists.queries.iter().collect::<Vec<_>>())?,
        lists.offsets.into_pyarray(py),
        Ids::distinct(lists.ids),
        lists.indices.into_pyarray(py),
        lists.scores.into_pyarray(py),
    ))
}

/// The lists of an official similarity JSON.
#[pyfunction]
fn read_run_json<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Read<'py>> {
    read(py, data, run::read_json)
}

/// The lists of a TREC run file.
#[pyfunction]
fn read_run_trec<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Read<'py>> {
    read(py, data, run::read_trec)
}

/// Writes an official similarity JSON to `file`, which must not exist; errors name `path`.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the signature Python calls")]
fn write_run_json(
    py: Python<'_>,
    queries: PyRef<'_, Ids>,
    offsets: PyReadonlyArray1<'_, i64>,
    ids: PyRef<'_, Ids>,
    indices: PyReadonlyArray1<'_, i64>,
    scores: PyReadonlyArray1<'_, f64>,
    indent: Option<usize>,
    file: PathBuf,
    path: PathBuf,
) -> PyResult<()> {
    let ranked = Ranked {
        queries: &queries.list,
        offsets: vector("offsets", &offsets)?,
        ids: &ids.list,
        indices: vector("indices", &indices)?,
        scores: vector("scores", &scores)?,
    };
    call(py, None, None, |control| {
        let failed = |source| Error::Io { path: path.clone(), action: "write", source };
        let file = File::options().write(true).create_new(true).open(&file).map_err(failed)?;
        let mut written = 0;
        let out = |piece: &[u8]| {
            (&file).write_all(piece)?;
            write_back(&file, written, piece.len() as u64);
            written += piece.len() as u64;
            Ok(())
        };
        run::write_json(ranked, indent, &path, out, control)
    })
}

/// Rows, and the position of each entry among them.
type Vocabulary<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// The rows that occur in `entries`, ascending, and for each entry its position among them, or -1 if it is negative.
#[pyfunction]
fn vocabulary<'py>(py: Python<'py>, entries: PyReadonlyArray1<'_, i64>) -> PyResult<Vocabulary<'py>> {
    let entries = vector("entries", &entries)?;
    let (rows, positions) = call(py, None, None, |control| run::vocabulary(entries, control))?;
    Ok((rows.into_pyarray(py), positions.into_pyarray(py)))
}

/// (list, index) of the first index that a list has twice; offsets and indices have been checked.
#[pyfunction]
fn first_repeated_index(
    py: Python<'_>,
    offsets: PyReadonlyArray1<'_, i64>,
    indices: PyReadonlyArray1<'_, i64>,
    size: usize,
) -> PyResult<Option<(usize, usize)>> {
    let (offsets, indices) = (vector("offsets", &offsets)?, vector("indices", &indices)?);
    call(py, None, None, |control| run::first_repeated_index(offsets, indices, size, control))
}

/// The ids of rows of stores, which make one sequence in the order given, as one text.
#[pyfunction]
fn ids_of_stores(py: Python<'_>, stores: Vec<Py<PyStore>>, rows: PyReadonlyArray1<'_, i64>) -> PyResult<Ids> {
    let rows = vector("rows", &rows)?;
    let stores: Vec<_> = stores.iter().map(|store| &*store.get().inner).collect();
    call(py, None, None, |control| ids_of(&stores, rows, control)).map(Ids::from)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Ids>()?;
    module.add_class::<IdSearch>()?;
    module.add_function(wrap_pyfunction!(read_run_json, module)?)?;
    module.add_function(wrap_pyfunction!(read_run_trec, module)?)?;
    module.add_function(wrap_pyfunction!(write_run_json, module)?)?;
    module.add_function(wrap_pyfunction!(vocabulary, module)?)?;
    module.add_function(wrap_pyfunction!(first_repeated_index, module)?)?;
    module.add_function(wrap_pyfunction!(ids_of_stores, module)?)
}
