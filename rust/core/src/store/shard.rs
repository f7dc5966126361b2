//! One shard: a safetensors file, its layout, and checked access to its tensors.

use std::ops::Range;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::SafeTensors;

use crate::error::{Error, Result};

use super::manifest::Entry;
use super::mmap::{Map, Plain};
use super::spec::{Column, Kind, Spec};

/// A header above this is refused; ours have some hundred bytes, other writers may add metadata.
const MAX_HEADER: u64 = 1 << 20;
/// Tensor data begin, and the main tensor is aligned, at a multiple of this where that is possible.
const ALIGN: usize = 64;

/// A column and the bytes of its tensor, in file order.
pub(super) type Layout = Vec<(Column, Vec<usize>, Range<usize>)>;

/// The header of a shard and where its tensors lie (in bytes of the file).
///
/// Every tensor is aligned to its element size: 8-byte elements first, then the main tensor, 4-byte elements
/// after it where its size keeps them aligned, bytes last. Spaces after the JSON bring the main tensor (or, if
/// that is impossible, the first tensor) to a multiple of 64.
pub(super) fn layout(spec: &Spec, rows: usize, descriptors: usize, id_bytes: usize) -> (Vec<u8>, Layout) {
    let columns = spec.columns();
    let main = spec.main();
    let size = |column: Column| -> usize {
        column.shape(spec, rows, descriptors, id_bytes).iter().product::<usize>() * column.width()
    };
    let rank = |column: Column| match column.width() {
        8 => 0,
        _ if column == main => 2,
        4 if size(main) % 4 == 0 => 3,
        4 => 1,
        _ => 4,
    };
    let mut order: Vec<Column> = columns.iter().copied().chain(Column::IDS).collect();
    order.sort_by_key(|column| rank(*column));
    let mut layout = Layout::new();
    let mut end = 0;
    for column in order {
        let start = end;
        end += size(column);
        layout.push((column, column.shape(spec, rows, descriptors, id_bytes), start..end));
    }
    let tensors: Vec<String> = layout
        .iter()
        .map(|(column, shape, range)| {
            format!(
                "\"{}\":{{\"dtype\":\"{:?}\",\"shape\":{shape:?},\"data_offsets\":[{},{}]}}",
                column.name(),
                column.dtype(),
                range.start,
                range.end
            )
            .replace(' ', "")
        })
        .collect();
    let json = format!(
        "{{\"__metadata__\":{{\"format\":\"ilias-fast {}\"}},{}}}",
        spec.kind().name(),
        tensors.join(",")
    );
    let before_main = layout.iter().find(|(column, ..)| *column == main).map_or(0, |(.., range)| range.start);
    let phase = if before_main % 8 == 0 { before_main } else { 0 };
    let unpadded = 8 + json.len();
    let data = (unpadded + phase).next_multiple_of(ALIGN) - phase;
    // `phase` is a multiple of 8, so `data` is one too; for a large phase the subtraction cannot go below
    // `unpadded` because the sum was only rounded up.
    let mut header = ((data - 8) as u64).to_le_bytes().to_vec();
    header.extend_from_slice(json.as_bytes());
    header.resize(data, b' ');
    for (.., range) in &mut layout {
        *range = range.start + data..range.end + data;
    }
    (header, layout)
}

/// An open shard.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    map: Map,
    rows: usize,
    descriptors: usize,
    code_bytes: usize,
    ranges: [Option<Range<usize>>; Column::COUNT],
}

impl Shard {
    /// Maps the shard `entry` of the store in `folder` and checks size, header, dtypes, shapes and alignment.
    pub fn open(folder: &Path, spec: &Spec, entry: &Entry) -> Result<Self> {
        let path = folder.join(super::SHARDS).join(&entry.file);
        let corrupt = |detail: String| Error::corrupt(&path, detail);
        let size = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Err(corrupt(format!("expected a shard of {} rows, found no file", entry.rows)));
            }
            Err(cause) => return Err(Error::io(&path, "read")(cause)),
        };
        if size != entry.bytes {
            return Err(corrupt(format!("expected {} bytes, found {size}", entry.bytes)));
        }
        if size < 8 {
            return Err(corrupt(format!("expected a safetensors file, found {size} bytes")));
        }
        let map = Map::open(&path).map_err(Error::io(&path, "map"))?;
        let mut shard = Self {
            path,
            map,
            rows: entry.rows,
            descriptors: entry.descriptors,
            code_bytes: spec.code_bytes(),
            ranges: Default::default(),
        };
        shard.ranges = shard.read_header(spec)?;
        Ok(shard)
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
            let aligned = match column.width() {
                1 => true,
                2 => self.map.view::<f16>(found.range.clone()).is_some(),
                4 => self.map.view::<i32>(found.range.clone()).is_some(),
                _ => self.map.view::<i64>(found.range.clone()).is_some(),
            };
            if !aligned {
                let expected = format!("a start that is a multiple of {}", column.width());
                return Err(self
                    .corrupt(format!("tensor {name:?}: expected {expected}, found {}", found.range.start)));
            }
            ranges[column as usize] = Some(found.range.clone());
        }
        Ok(ranges)
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

    /// Calls `found(position, row)` for every id of the batch that is in this shard.
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
            cursor = gallop(index, cursor, hash);
            let id = ids[position as usize].as_ref().as_bytes();
            for (candidate, row) in index[cursor..].iter().zip(&rows[cursor..]) {
                if *candidate != hash {
                    break;
                }
                let row = usize::try_from(*row)
                    .ok()
                    .filter(|row| *row < self.rows)
                    .ok_or_else(|| self.corrupt(format!("tensor \"id_row\": row {row} of {}", self.rows)))?;
                if self.id_bytes(row)? == id {
                    found(position as usize, row)?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Checks the tables whose every entry `open` does not look at: offsets, ids and their index. O(rows).
    pub fn check_tables(&self, kind: Kind) -> Result<()> {
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
        let hashes = self.column::<i64>(Column::IdHash);
        let mut seen = vec![false; self.rows];
        for (position, row) in self.column::<i32>(Column::IdRow).iter().enumerate() {
            let slot = usize::try_from(*row).ok().and_then(|row| seen.get_mut(row));
            let fresh = slot.is_some_and(|seen| !std::mem::replace(seen, true));
            if !fresh || (position > 0 && hashes[position - 1] > hashes[position]) {
                return Err(self
                    .corrupt(format!("tensors \"id_hash\", \"id_row\": entry {position} is out of order")));
            }
            self.id(*row as usize)?;
            if super::ids::id_hash(self.id_bytes(*row as usize)?) != hashes[position] {
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

/// A tensor as a header describes it, in bytes of the file.
pub(super) struct Tensor {
    pub name: String,
    pub dtype: safetensors::Dtype,
    pub shape: Vec<usize>,
    pub range: Range<usize>,
}

/// Reads a safetensors header; `bytes` is the whole file.
pub(super) fn parse_header(bytes: &[u8]) -> Result<Vec<Tensor>, String> {
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    let length = length.ok_or("expected a safetensors file, found less than 8 bytes")?;
    if length > MAX_HEADER {
        return Err(format!("safetensors header: expected at most {MAX_HEADER} bytes, found {length}"));
    }
    let (length, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|cause| format!("safetensors header: {cause}"))?;
    let data = 8 + length;
    let mut tensors: Vec<Tensor> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| Tensor {
            name,
            dtype: info.dtype,
            shape: info.shape.clone(),
            range: info.data_offsets.0 + data..info.data_offsets.1 + data,
        })
        .collect();
    tensors.sort_by_key(|tensor| tensor.range.start);
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spec::Optional;
    use super::*;

    proptest! {
        #[test]
        fn every_tensor_is_aligned(
            kind in 0..3, length in 1_usize..70, rows in 1_usize..9, descriptors in 0_usize..9, id_bytes in 1_usize..99,
        ) {
            let spec = match kind {
                0 => Spec::global(length),
                1 => Spec::binary(length),
                _ => Spec::local(length, Optional { scale: true, angle: false, weight: true }),
            }.unwrap();
            let (mut file, layout) = layout(&spec, rows, descriptors, id_bytes);
            let mut end = file.len();
            for (column, _, range) in &layout {
                prop_assert_eq!(range.start % column.width(), 0);
                prop_assert_eq!(range.start, end);
                end = range.end;
            }
            let main = layout.iter().find(|(column, ..)| *column == spec.main()).unwrap();
            let odd = main.2.len() % 4 != 0;
            prop_assert!(odd || main.2.start % ALIGN == 0);
            file.resize(end, 0);
            prop_assert_eq!(parse_header(&file).unwrap().len(), layout.len());
        }

        #[test]
        fn gallop_finds_what_a_scan_finds(mut index in prop::collection::vec(0_i64..50, 0..40), hash in 0_i64..50) {
            index.sort_unstable();
            let expected = index.iter().position(|candidate| *candidate >= hash).unwrap_or(index.len());
            for start in 0..=expected {
                prop_assert_eq!(gallop(&index, start, hash), expected);
            }
        }
    }
}
