//! Rows to append, and whether a store can take them.

use std::path::Path;

use half::f16;

use crate::error::{Error, Result};

use super::mmap::first_non_finite;
use super::spec::{Kind, Spec};

/// Rows to append, one for each id given with them.
#[derive(Debug, Clone, Copy)]
pub enum Batch<'a> {
    /// `dim` numbers a row.
    Global(&'a [f16]),
    /// `code_bytes` bytes a row.
    Binary(&'a [u8]),
    /// Local descriptors of several images.
    Local(LocalBatch<'a>),
}

/// Local descriptors of n images, one image after the other.
#[derive(Debug, Clone, Copy)]
pub struct LocalBatch<'a> {
    /// n + 1 numbers: image i owns descriptors `offsets[i]..offsets[i + 1]`.
    pub offsets: &'a [i64],
    /// `code_bytes` bytes a descriptor; empty if the store holds float16 descriptors.
    pub codes: &'a [u8],
    /// `dim` numbers a descriptor; empty if the store holds codes.
    pub descriptors: &'a [f16],
    /// x, y in [0, 1], two numbers a descriptor.
    pub xy: &'a [f32],
    /// Keypoint scales, positive; given exactly if the store has them.
    pub scale: Option<&'a [f32]>,
    /// Keypoint angles in radians; given exactly if the store has them.
    pub angle: Option<&'a [f32]>,
    /// Descriptor weights; given exactly if the store has them.
    pub weight: Option<&'a [f32]>,
    /// Width and height in pixels, two numbers an image, positive.
    pub size: &'a [i32],
}

impl Batch<'_> {
    /// About how many bytes the main tensor of the rows takes.
    pub(super) const fn bytes(&self) -> usize {
        match self {
            Self::Global(vectors) => size_of_val(*vectors),
            Self::Binary(codes) => codes.len(),
            Self::Local(batch) => batch.codes.len() + size_of_val(batch.descriptors) + size_of_val(batch.xy),
        }
    }

    /// Checks that there are `rows` rows of what a store at `path` of this `spec` holds, all usable.
    pub(super) fn check(&self, rows: usize, spec: &Spec, path: &Path) -> Result<()> {
        let wrong_kind = |found: &str| Error::Incompatible {
            path: path.to_owned(),
            expected: format!("rows for {}", spec.describe()),
            found: found.to_owned(),
        };
        match self {
            Self::Global(vectors) if spec.kind() == Kind::Global => {
                check_length("vectors", vectors.len(), rows, spec.dim())?;
                check_halves("vectors", vectors, spec.dim())
            }
            Self::Binary(codes) if spec.kind() == Kind::Binary => {
                check_length("codes", codes.len(), rows, spec.code_bytes())?;
                check_padding(codes, spec)
            }
            Self::Local(batch) if spec.kind() == Kind::Local => super::local::check(batch, rows, spec),
            Self::Global(_) => Err(wrong_kind("vectors")),
            Self::Binary(_) => Err(wrong_kind("one code an image")),
            Self::Local(_) => Err(wrong_kind("local descriptors")),
        }
    }
}

pub(super) fn check_halves(what: &str, values: &[f16], columns: usize) -> Result<()> {
    first_non_finite(values).map_or(Ok(()), |position| {
        Err(Error::NonFinite {
            what: what.to_owned(),
            row: position / columns,
            column: position % columns,
            value: values[position].to_f32(),
        })
    })
}

pub(super) fn check_length(what: &str, found: usize, rows: usize, width: usize) -> Result<()> {
    if rows.checked_mul(width) == Some(found) {
        return Ok(());
    }
    let expected = format!("{rows} rows of {width}");
    Err(Error::shape(what, expected, format!("{found} elements ({} rows)", found as f64 / width as f64)))
}

/// Checks that the bits after the last one of each code are zero; they would count as distance.
pub(super) fn check_padding(codes: &[u8], spec: &Spec) -> Result<()> {
    let width = spec.code_bytes();
    if width == 0 {
        return Ok(());
    }
    let padding = (1_u16 << (8 * width - spec.bits())) as u8 - 1;
    if padding == 0 {
        return Ok(());
    }
    codes.chunks_exact(width).position(|code| code[width - 1] & padding != 0).map_or(Ok(()), |row| {
        let expected = format!("zero bits after the first {}", spec.bits());
        Err(Error::parameter(
            "codes",
            expected,
            format!("row {row} ends in {:08b}", codes[(row + 1) * width - 1]),
        ))
    })
}
