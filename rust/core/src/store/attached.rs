//! Tensors computed from a shard, in a file beside it.

use std::path::{Path, PathBuf};

use half::f16;
use safetensors::Dtype;

use crate::error::{Error, Result};

use super::advice::Backing;
use super::entry::Derived;
use super::layout::{Tensor, parse_header, width};
use super::mmap::{Map, Plain};
use super::shard::{check_alignment, map};

/// Numbers that tensors beside a shard can hold.
pub trait Element: Plain {
    /// Their safetensors dtype.
    const DTYPE: Dtype;
}

impl Element for u8 {
    const DTYPE: Dtype = Dtype::U8;
}
impl Element for i8 {
    const DTYPE: Dtype = Dtype::I8;
}
impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;
}
impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}
impl Element for i32 {
    const DTYPE: Dtype = Dtype::I32;
}
impl Element for i64 {
    const DTYPE: Dtype = Dtype::I64;
}

/// The dtypes of [`Element`]s.
pub(super) const DTYPES: [Dtype; 6] = [u8::DTYPE, i8::DTYPE, f16::DTYPE, f32::DTYPE, i32::DTYPE, i64::DTYPE];

/// What is wrong with a derived file: [`Error::Corrupt`] each time it is asked for.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub path: PathBuf,
    pub detail: String,
}

/// Tensors computed from a shard, mapped.
#[derive(Debug)]
pub struct Attached {
    path: PathBuf,
    map: Map,
    tensors: Vec<Tensor>,
    parameters: String,
}

impl Attached {
    /// Maps a derived file of a shard with that many rows and descriptors; checks size, header, dtypes, shapes
    /// and alignment.
    pub(super) fn open(folder: &Path, derived: &Derived, extents: [usize; 2]) -> Result<Self, Fault> {
        let path = folder.join(super::SHARDS).join(&derived.file.name);
        let fault = |detail: String| Fault { path: path.clone(), detail };
        let (_, map) =
            map(folder, &derived.file, &format!("the {} of a shard", derived.kind)).map_err(|error| {
                match error {
                    Error::Corrupt { detail, .. } => fault(detail),
                    other => fault(other.to_string()),
                }
            })?;
        let tensors = parse_header(map.bytes()).map_err(fault)?;
        for tensor in &tensors {
            let (name, shape) = (&tensor.name, &tensor.shape);
            if !DTYPES.contains(&tensor.dtype) {
                return Err(fault(format!(
                    "tensor {name:?}: expected one of {DTYPES:?}, found {:?}",
                    tensor.dtype
                )));
            }
            let fits = shape.first().is_some_and(|first| *first == 1 || extents.contains(first));
            if name != super::layout::PADDING && !fits {
                let expected = format!("one row, or one for each of {} images", extents[0]);
                return Err(fault(format!("tensor {name:?}: expected {expected}, found shape {shape:?}")));
            }
            check_alignment(tensor, width(tensor.dtype)).map_err(fault)?;
        }
        Ok(Self { path, map, tensors, parameters: derived.parameters.clone() })
    }

    /// How the tensors were computed: a JSON object.
    pub fn parameters(&self) -> &str {
        &self.parameters
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The map that the tensors lie in.
    pub const fn backing(&self) -> Backing<'_> {
        Backing(&self.map)
    }

    /// Shape and elements of a tensor; row i belongs to row i of the shard, deleted or not, unless there is but one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is none of that name and dtype.
    pub fn tensor<T: Element>(&self, name: &str) -> Result<(&[usize], &[T])> {
        let found = self.tensors.iter().find(|tensor| tensor.name == name);
        found
            .filter(|tensor| tensor.dtype == T::DTYPE)
            .and_then(|tensor| Some((&tensor.shape[..], self.map.view(tensor.range.clone())?)))
            .ok_or_else(|| {
                let found = found.map_or("none".to_owned(), |tensor| format!("one of {:?}", tensor.dtype));
                Error::corrupt(
                    &self.path,
                    format!("expected a tensor {name:?} of {:?}, found {found}", T::DTYPE),
                )
            })
    }
}
