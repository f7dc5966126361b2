//! Attaching derived tensors to committed shards.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::positioned::Positioned;

use super::attached::{DTYPES, Element};
use super::checksum::{BLOCK, Blocks};
use super::entry::{Derived, Listed, is_kind};
use super::layout::{PADDING, Part, layout, width};
use super::manifest::json_object;
use super::mmap::bytes_of;
use super::reader::ShardView;
use super::write_file::sync_folder;
use super::{PARTIAL, SHARDS, Writer, disk};

/// A tensor to be attached: its name (of a-z, 0-9 and _), dtype and shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec(Part);

impl TensorSpec {
    /// A tensor of `T`; the first extent is the number of rows of the shard (or of its local descriptors), or 1 for
    /// what belongs to all of them.
    pub fn new<T: Element>(name: &str, shape: &[usize]) -> Self {
        Self(Part::new(name, T::DTYPE, shape.to_vec()))
    }
}

/// Takes the tensors to be attached, each in pieces, in any order among each other.
#[derive(Debug)]
pub struct TensorSink {
    file: File,
    path: PathBuf,
    /// Tensor, where its next element goes, where it ends.
    tensors: Vec<(Part, usize, usize)>,
}

impl TensorSink {
    /// Appends elements to a tensor.
    pub fn write<T: Element>(&mut self, name: &str, elements: &[T]) -> Result<()> {
        let bytes = bytes_of(elements);
        let tensor = self.tensors.iter_mut().find(|(part, ..)| part.name == name && part.dtype == T::DTYPE);
        let Some((part, next, end)) = tensor else {
            let expected = "the name and dtype of a tensor that was announced";
            return Err(Error::parameter("tensor", expected, format!("{name:?} of {:?}", T::DTYPE)));
        };
        if bytes.len() > *end - *next {
            let missing = (*end - *next) / width(part.dtype);
            let expected = format!("at most {missing} more elements (its shape is {:?})", part.shape);
            return Err(Error::shape(name, expected, elements.len().to_string()));
        }
        disk::write_at(&self.file, bytes, *next as u64).map_err(Error::io(&self.path, "write"))?;
        *next += bytes.len();
        Ok(())
    }

    /// Checks that every tensor is complete; returns size and block hashes of the file, which is synced.
    fn finish(self) -> Result<(u64, Vec<u64>)> {
        let mut bytes = 0;
        for (part, next, end) in &self.tensors {
            if next != end {
                let missing = (end - next) / width(part.dtype);
                let expected = format!("{:?}", part.shape);
                return Err(Error::shape(&part.name, expected, format!("{missing} elements less")));
            }
            bytes = bytes.max(*end as u64);
        }
        // The pieces came in any order, so the file is hashed as a whole, out of the page cache.
        let mut blocks = Blocks::default();
        let mut buffer = vec![0; BLOCK.min(bytes as usize)];
        let mut start = 0;
        while start < bytes {
            let length = (bytes - start).min(BLOCK as u64) as usize;
            self.file
                .read_exact_at(&mut buffer[..length], start)
                .map_err(Error::io(&self.path, "read back"))?;
            blocks.update(&buffer[..length]);
            start += length as u64;
        }
        disk::sync(&self.file).map_err(Error::io(&self.path, "sync"))?;
        Ok((bytes, blocks.finish()))
    }
}

impl Writer {
    /// The shards of the store.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// One shard.
    pub fn shard(&self, shard: usize) -> Result<ShardView<'_>> {
        self.shards
            .get(shard)
            .map(ShardView::new)
            .ok_or_else(|| Error::parameter("shard", format!("a shard below {}", self.shards.len()), shard))
    }

    /// Computes tensors from a shard, stores them beside it and commits; they replace those of the same kind.
    ///
    /// `produce` reads the shard and writes `tensors` piece by piece, so neither is ever held in memory. The
    /// commit is atomic and durable like every other one; killed before it, the store is as it was, so that a
    /// loop over the shards that skips those which have what it makes can be repeated until it is through.
    /// Row numbers are those of the shard, deleted rows included. `parameters` is a JSON object that says how the
    /// tensors are computed.
    ///
    /// # Errors
    /// [`Error::Parameter`] if rows wait for a commit, or for a bad kind, name or parameters; [`Error::Shape`] if
    /// `produce` writes more or less than it announced; whatever `produce` returns; [`Error::Io`].
    pub fn attach(
        &mut self,
        shard: usize,
        kind: &str,
        parameters: &str,
        tensors: &[TensorSpec],
        produce: impl FnOnce(&ShardView<'_>, &mut TensorSink) -> Result<()>,
    ) -> Result<()> {
        self.check_nothing_waits("attach")?;
        let parameters = json_object("parameters", parameters)?;
        let view = self.shard(shard)?;
        if !is_kind(kind) {
            return Err(Error::parameter("kind", "1 to 32 of a-z, 0-9 and _", format!("{kind:?}")));
        }
        check_tensors(tensors, [view.rows(), view.descriptors()])?;
        let folder = self.path.join(SHARDS);
        let stem = view.name().trim_end_matches(".safetensors").to_owned();
        let partial = folder.join(format!("{stem}.{kind}.safetensors{PARTIAL}"));
        let file = write(&partial, kind, tensors, |sink| produce(&view, sink)).and_then(|(bytes, blocks)| {
            let hash = super::checksum::hash_of_blocks(&blocks);
            let name = format!("{stem}.{kind}-{hash:016x}.safetensors");
            disk::rename(&partial, &folder.join(&name)).map_err(Error::io(&partial, "rename"))?;
            Ok(Listed { name, bytes, blocks })
        });
        let file = file.inspect_err(|_| {
            // Best effort: what stays is listed by `verify` and removed by `gc`.
            let _ = disk::remove(&partial);
        })?;
        sync_folder(&folder)?;
        let name = file.name.clone();
        let mut manifest = self.manifest.clone();
        let derived = &mut manifest.shards[shard].derived;
        derived.retain(|derived| derived.kind != kind);
        derived.push(Derived { kind: kind.to_owned(), file, parameters });
        self.publish(manifest).inspect_err(|_| {
            if self.manifest.files().all(|file| file.name != name) {
                let _ = disk::remove(&folder.join(&name));
            }
        })
    }

    /// Drops the derived tensors of that kind from all shards, and commits; returns how many there were.
    pub fn detach(&mut self, kind: &str) -> Result<usize> {
        self.check_nothing_waits("detach")?;
        let has = |shard: &usize| self.manifest.shards[*shard].derived.iter().any(|one| one.kind == kind);
        let shards: Vec<usize> = (0..self.shards.len()).filter(has).collect();
        if shards.is_empty() {
            return Ok(0);
        }
        let mut manifest = self.manifest.clone();
        for &shard in &shards {
            manifest.shards[shard].derived.retain(|derived| derived.kind != kind);
        }
        self.publish(manifest)?;
        Ok(shards.len())
    }
}

fn check_tensors(tensors: &[TensorSpec], extents: [usize; 2]) -> Result<()> {
    if tensors.is_empty() {
        return Err(Error::parameter("tensors", "at least one", "none"));
    }
    for (index, TensorSpec(part)) in tensors.iter().enumerate() {
        let twice = tensors[..index].iter().any(|other| other.0.name == part.name);
        if twice || !is_kind(&part.name) || part.name == PADDING || !DTYPES.contains(&part.dtype) {
            let expected = "different names of 1 to 32 of a-z, 0-9 and _";
            return Err(Error::parameter("tensors", expected, format!("{:?}", part.name)));
        }
        let fits = part.shape.first().is_some_and(|first| *first == 1 || extents.contains(first));
        if !fits || part.bytes().is_none_or(|bytes| bytes > 1 << 46) {
            let expected = format!("one row, or one for each of {} images", extents[0]);
            return Err(Error::shape(&part.name, expected, format!("{:?}", part.shape)));
        }
    }
    Ok(())
}

/// Writes a derived file under its temporary name and syncs it.
fn write(
    partial: &Path,
    kind: &str,
    tensors: &[TensorSpec],
    produce: impl FnOnce(&mut TensorSink) -> Result<()>,
) -> Result<(u64, Vec<u64>)> {
    let parts: Vec<Part> = tensors.iter().map(|tensor| tensor.0.clone()).collect();
    let (header, ranges) = layout(&parts, kind, 0);
    let file = disk::create(partial).map_err(Error::io(partial, "create"))?;
    disk::write_at(&file, &header, 0).map_err(Error::io(partial, "write"))?;
    let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
    // Padding between tensors, which nobody writes, reads as zeros.
    file.set_len(end as u64).map_err(Error::io(partial, "write"))?;
    let tensors = parts.into_iter().zip(ranges).map(|(part, range)| (part, range.start, range.end)).collect();
    let mut sink = TensorSink { file, path: partial.to_owned(), tensors };
    produce(&mut sink)?;
    sink.finish()
}
