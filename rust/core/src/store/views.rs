//! What a store hands out: a shard as its file has it, the local descriptors of an image.

use half::f16;

use crate::error::Result;

use super::advice::Backing;
use super::attached::Attached;
use super::shard::Shard;
use super::spec::Column;

/// One shard, as its file has it.
#[derive(Debug, Clone, Copy)]
pub struct ShardView<'a>(&'a Shard);

impl<'a> ShardView<'a> {
    pub(super) const fn new(shard: &'a Shard) -> Self {
        Self(shard)
    }

    /// Name of the file inside `shards/`.
    pub fn name(&self) -> &'a str {
        self.0.name()
    }

    /// Rows of the shard.
    pub const fn rows(&self) -> usize {
        self.0.rows()
    }

    /// Local descriptors of all its images; 0 in other kinds.
    pub const fn descriptors(&self) -> usize {
        self.0.descriptors()
    }

    /// The vectors, if the store is global: `rows * dim` numbers.
    pub fn vectors(&self) -> Option<&'a [f16]> {
        self.0.optional(Column::Vectors)
    }

    /// The codes, if the store is binary or local: `code_bytes` bytes a row or descriptor.
    pub fn codes(&self) -> Option<&'a [u8]> {
        self.0.optional(Column::Codes)
    }

    /// The map that the vectors and codes lie in.
    pub const fn backing(&self) -> Backing<'a> {
        self.0.backing()
    }

    /// The tensors of that kind computed from the shard, whose row i belongs to row i of the shard; `None` if the
    /// manifest lists none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if their file is damaged or missing: the shard itself can be read without it.
    pub fn attached(&self, kind: &str) -> Result<Option<&'a Attached>> {
        self.0.attached(kind)
    }
}

/// The local descriptors of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalView<'a> {
    /// Packed codes, `code_bytes` bytes a descriptor; empty if the store holds float16 descriptors.
    pub codes: &'a [u8],
    /// Float16 descriptors, `dim` numbers each; empty if the store holds codes.
    pub descriptors: &'a [f16],
    /// Keypoint positions x, y in [0, 1], two numbers a descriptor.
    pub xy: &'a [f32],
    /// Keypoint scales, if the store has them.
    pub scale: Option<&'a [f32]>,
    /// Keypoint angles in radians, if the store has them.
    pub angle: Option<&'a [f32]>,
    /// Descriptor weights, if the store has them.
    pub weight: Option<&'a [f32]>,
    /// Width and height of the image in pixels.
    pub size: [u32; 2],
}
