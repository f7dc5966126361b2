//! One shard: a safetensors file, and checked access to its tensors.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

use super::advice::Backing;
use super::attached::{Attached, Fault};
use super::entry::{Entry, Listed};
use super::filter::Filter;
use super::ids::{check_id, id_hash};
use super::layout::{Tensor, parse_header};
use super::mmap::{Map, Plain};
use super::spec::{Column, Kind, Spec};
use super::tombstones::Tombstones;

/// An open shard.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    map: Map,
    rows: usize,
    descriptors: usize,
    code_bytes: usize,
    deleted: Tombstones,
    ranges: [Option<Range<usize>>; Column::COUNT],
    /// By kind; what is wrong with a file that cannot be used.
    attached: Vec<(String, Result<Attached, Fault>)>,
    /// Of the ids, if a writer will ask for many.
    filter: Option<Filter>,
}

/// Maps a file of `shards/` and checks that it is there and has its size.
pub(super) fn map(folder: &Path, listed: &Listed, what: &str) -> Result<(PathBuf, Map)> {
    let path = folder.join(super::SHARDS).join(&listed.name);
    let size = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::corrupt(&path, format!("expected {what}, found no file")));
        }
        Err(cause) => return Err(Error::io(&path, "read")(cause)),
    };
    if size != listed.bytes {
        return Err(Error::corrupt(&path, format!("expected {} bytes, found {size}", listed.bytes)));
    }
    if size < 8 {
        return Err(Error::corrupt(&path, format!("expected a safetensors file, found {size} bytes")));
    }
    let map = Map::open(&path).map_err(Error::io(&path, "map"))?;
    Ok((path, map))
}

/// Checks that a tensor is aligned to its elements, so that it can be read in place.
pub(super) fn check_alignment(tensor: &Tensor, width: usize) -> Result<(), String> {
    if tensor.range.start.is_multiple_of(width) {
        return Ok(());
    }
    let (name, start) = (&tensor.name, tensor.range.start);
    Err(format!("tensor {name:?}: expected a start that is a multiple of {width}, found {start}"))
}

impl Shard {
    /// Maps the shard `entry` of the store in `folder` and checks size, header, dtypes, shapes and alignment.
    ///
    /// A derived file that is damaged or missing is no error here, but where it is asked for.
    pub fn open(folder: &Path, spec: &Spec, entry: &Entry) -> Result<Self> {
        let (path, map) = map(folder, &entry.file, &format!("a shard of {} rows", entry.rows))?;
        let mut shard = Self {
            path,
            map,
            rows: entry.rows,
            descriptors: entry.descriptors,
            code_bytes: spec.code_bytes(),
            deleted: entry.deleted.clone(),
            ranges: Default::default(),
            attached: Vec::new(),
            filter: None,
        };
        shard.ranges = shard.read_header(spec)?;
        shard.update(folder, entry);
        Ok(shard)
    }

    /// Takes from `entry` what can change of a shard: which rows are deleted, and the derived files.
    pub fn update(&mut self, folder: &Path, entry: &Entry) {
        self.deleted = entry.deleted.clone();
        let extents = [self.rows, self.descriptors];
        self.attached = entry
            .derived
            .iter()
            .map(|derived| (derived.kind.clone(), Attached::open(folder, derived, extents)))
            .collect();
    }

    /// Makes [`Self::find`] faster for ids that are not there. O(rows).
    pub fn prepare_to_miss(&mut self) {
        self.filter = Some(Filter::new(self.column(Column::IdHash)));
    }

    /// The tensors of a kind derived from this shard; `None` if there are none.
    pub fn attached(&self, kind: &str) -> Result<Option<&Attached>> {
        let Some((_, attached)) = self.attached.iter().find(|(name, _)| name == kind) else {
            return Ok(None);
        };
        attached.as_ref().map(Some).map_err(|fault| Error::corrupt(&fault.path, &fault.detail))
    }

    /// Whether every derived file could be mapped.
    pub fn is_complete(&self) -> bool {
        self.attached.iter().all(|(_, attached)| attached.is_ok())
    }

    fn read_header(&self, spec: &Spec) -> Result<[Option<Range<usize>>; Column::COUNT]> {
        let tensors = parse_header(self.map.bytes()).map_err(|detail| self.corrupt(detail))?;
        let id_bytes = tensors
            .iter()
            .find(|tensor| tensor.name == Column::Ids.name())
            .and_then(|tensor| tensor.shape.first().copied())
            .unwrap_or(0);
        let mut ranges: [Option<Range<usize>>; Column::COUNT] = Default::default();
        for column in spec.columns().into_iter().chain(Column::IDS) {
            let name = column.name();
            let shape = column.shape(spec, self.rows, self.descriptors, id_bytes);
            let found = tensors
                .iter()
                .find(|tensor| tensor.name == name)
                .ok_or_else(|| self.corrupt(format!("expected a tensor {name:?}, found none")))?;
            if found.dtype != column.dtype() || found.shape != shape {
                return Err(self.corrupt(format!(
                    "tensor {name:?}: expected {:?} {shape:?}, found {:?} {:?}",
                    column.dtype(),
                    found.dtype,
                    found.shape
                )));
            }
            check_alignment(found, column.width()).map_err(|detail| self.corrupt(detail))?;
            ranges[column as usize] = Some(found.range.clone());
        }
        Ok(ranges)
    }

    /// Name of the file inside `shards/`.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    pub const fn rows(&self) -> usize {
        self.rows
    }

    pub const fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// Damage found while using the shard.
    pub fn corrupt(&self, detail: impl Into<String>) -> Error {
        Error::corrupt(&self.path, detail)
    }

    /// The elements of a tensor; empty for a column the store does not have.
    pub fn column<T: Plain>(&self, column: Column) -> &[T] {
        debug_assert_eq!(column.width(), size_of::<T>());
        self.ranges[column as usize].clone().and_then(|range| self.map.view(range)).unwrap_or_default()
    }

    /// The elements of an optional tensor.
    pub fn optional<T: Plain>(&self, column: Column) -> Option<&[T]> {
        self.ranges[column as usize].clone().and_then(|range| self.map.view(range))
    }

    /// The id of a row of this shard, as bytes.
    pub fn id_bytes(&self, row: usize) -> Result<&[u8]> {
        let offsets = self.column::<i64>(Column::IdOffsets);
        let range = offsets.get(row).copied().zip(offsets.get(row + 1).copied());
        range
            .and_then(|(start, end)| Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?))
            .and_then(|range| self.column::<u8>(Column::Ids).get(range))
            .ok_or_else(|| {
                self.corrupt(format!("tensor \"id_offsets\": row {row} is {range:?}, out of bounds"))
            })
    }

    /// The id of a row of this shard.
    pub fn id(&self, row: usize) -> Result<&str> {
        std::str::from_utf8(self.id_bytes(row)?)
            .map_err(|cause| self.corrupt(format!("tensor \"ids\": row {row}: {cause}")))
    }

    /// Which local descriptors belong to a row of this shard.
    pub fn descriptors_of(&self, row: usize) -> Result<Range<usize>> {
        let offsets = self.column::<i64>(Column::Offsets);
        let range = offsets.get(row).copied().zip(offsets.get(row + 1).copied());
        range
            .and_then(|(start, end)| Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?))
            .filter(|range| range.start <= range.end && range.end <= self.descriptors)
            .ok_or_else(|| self.corrupt(format!("tensor \"offsets\": row {row} is {range:?}, out of bounds")))
    }

    /// The map that the tensors lie in.
    pub const fn backing(&self) -> Backing<'_> {
        Backing(&self.map)
    }

    /// The rows that are not deleted, as runs.
    pub fn live(&self) -> impl Iterator<Item = Range<usize>> {
        self.deleted.live(self.rows)
    }

    /// Calls `found(position, row)` for every id of the batch that is in this shard and not deleted.
    ///
    /// `hashes` are (hash, position in `ids`), ascending. O(b log(n / b)) for b ids among n rows.
    pub fn find<S: AsRef<str>>(
        &self,
        hashes: &[(i64, u32)],
        ids: &[S],
        mut found: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<()> {
        let index = self.column::<i64>(Column::IdHash);
        let rows = self.column::<i32>(Column::IdRow);
        let mut cursor = 0;
        for &(hash, position) in hashes {
            if self.filter.as_ref().is_some_and(|filter| !filter.may_contain(hash)) {
                continue;
            }
            cursor = seek(index, cursor, hash);
            let id = ids[position as usize].as_ref().as_bytes();
            for (candidate, row) in index[cursor..].iter().zip(&rows[cursor..]) {
                if *candidate != hash {
                    break;
                }
                let row = usize::try_from(*row)
                    .ok()
                    .filter(|row| *row < self.rows)
                    .ok_or_else(|| self.corrupt(format!("tensor \"id_row\": row {row} of {}", self.rows)))?;
                if self.id_bytes(row)? == id && !self.deleted.contains(row) {
                    found(position as usize, row)?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Checks the tables whose every entry `open` does not look at: offsets, ids and their index. O(rows).
    pub fn check_tables(&self, kind: Kind) -> Result<()> {
        const SEEN: i64 = -1;
        let ends = |column: Column, end: usize| {
            let offsets = self.column::<i64>(column);
            let fault = if offsets.first() != Some(&0) {
                Some(0)
            } else if offsets.last() != Some(&(end as i64)) {
                Some(self.rows)
            } else {
                offsets.windows(2).position(|pair| pair[0] > pair[1])
            };
            fault.map_or(Ok(()), |row| {
                let detail = "expected a rise from 0 to the number of elements";
                Err(self.corrupt(format!("tensor {:?}: {detail}, which ends at row {row}", column.name())))
            })
        };
        ends(Column::IdOffsets, self.column::<u8>(Column::Ids).len())?;
        if kind == Kind::Local {
            ends(Column::Offsets, self.descriptors)?;
        }
        // In row order, so that the ids are read once and from front to back. Hashes are never negative.
        let ids = self.column::<u8>(Column::Ids);
        // Of text as a whole only the ends of an id have to be looked at; else `id` finds the one at fault.
        let text = std::str::from_utf8(ids).unwrap_or_default();
        let mut expected = Vec::new();
        for (row, ends) in self.column::<i64>(Column::IdOffsets).windows(2).enumerate() {
            let id = text.get(ends[0] as usize..ends[1] as usize).map_or_else(|| self.id(row), Ok)?;
            check_id(id, row).map_err(|fault| self.corrupt(format!("tensor \"ids\": {fault}")))?;
            expected.push(id_hash(id.as_bytes()));
        }
        let hashes = self.column::<i64>(Column::IdHash);
        for (position, row) in self.column::<i32>(Column::IdRow).iter().enumerate() {
            let slot = usize::try_from(*row).ok().and_then(|row| expected.get_mut(row));
            let expected = slot.map_or(SEEN, |slot| std::mem::replace(slot, SEEN));
            if expected == SEEN || (position > 0 && hashes[position - 1] > hashes[position]) {
                return Err(self
                    .corrupt(format!("tensors \"id_hash\", \"id_row\": entry {position} is out of order")));
            }
            if expected != hashes[position] {
                return Err(
                    self.corrupt(format!("tensor \"id_hash\": entry {position} is not the hash of its id"))
                );
            }
        }
        Ok(())
    }

    /// Bytes of a packed code.
    pub const fn code_bytes(&self) -> usize {
        self.code_bytes
    }
}

/// As [`gallop`], from where a hash of that size is expected: hashes are spread evenly, so that is right up to
/// about the root of their number, and a lookup touches a page or two.
fn seek(index: &[i64], start: usize, hash: i64) -> usize {
    let expected = ((hash as f64 / i64::MAX as f64) * index.len() as f64) as usize;
    let mut step = index.len().isqrt() / 2 + 1;
    let mut from = expected.min(index.len()).saturating_sub(step);
    while from > start && index[from] >= hash {
        step *= 2;
        from = from.saturating_sub(step);
    }
    gallop(index, from.max(start), hash)
}

/// The first position from `start` on whose hash is at least `hash`; `index` ascending. If a damaged index is
/// not, some position within bounds.
fn gallop(index: &[i64], start: usize, hash: i64) -> usize {
    let mut step = 1;
    let mut low = start;
    while low + step < index.len() && index[low + step] < hash {
        low += step;
        step *= 2;
    }
    let high = index.len().min(low + step + 1);
    low + index[low..high].partition_point(|candidate| *candidate < hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gallop_finds_what_a_scan_finds(mut index in prop::collection::vec(0_i64..50, 0..40), hash in 0_i64..50) {
            index.sort_unstable();
            let expected = index.iter().position(|candidate| *candidate >= hash).unwrap_or(index.len());
            for start in 0..=expected {
                prop_assert_eq!(gallop(&index, start, hash), expected);
                prop_assert_eq!(seek(&index, start, hash), expected);
            }
        }
    }
}
