//! Rows that wait to become a shard.

use std::collections::HashSet;
use std::ops::Range;

use super::ids::id_hash;
use super::layout::layout;
use super::mmap::bytes_of;
use super::spec::{Column, Spec};
use super::write_file::ShardFile;

/// The tensors of the next shard, growing.
#[derive(Debug)]
pub(super) struct Buffer {
    columns: [Vec<u8>; Column::COUNT],
    hashes: HashSet<i64>,
    rows: usize,
    descriptors: usize,
    bytes: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        let mut columns: [Vec<u8>; Column::COUNT] = Default::default();
        // Offsets start at 0.
        columns[Column::IdOffsets as usize] = vec![0; 8];
        columns[Column::Offsets as usize] = vec![0; 8];
        Self { columns, hashes: HashSet::new(), rows: 0, descriptors: 0, bytes: 0 }
    }
}

impl Buffer {
    pub const fn rows(&self) -> usize {
        self.rows
    }

    pub const fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// Bytes of all tensors so far.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends elements of a tensor. The caller keeps the tensors of equal length.
    pub fn extend(&mut self, column: Column, bytes: &[u8]) {
        self.columns[column as usize].extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    /// Counts the `count` descriptors of the next image.
    pub fn extend_descriptors(&mut self, count: usize) {
        self.descriptors += count;
        let end = self.descriptors as i64;
        self.extend(Column::Offsets, &end.to_le_bytes());
    }

    /// Appends ids, and with them rows.
    pub fn extend_ids<S: AsRef<str>>(&mut self, ids: &[S]) {
        for id in ids {
            let id = id.as_ref().as_bytes();
            self.extend(Column::Ids, id);
            let end = self.columns[Column::Ids as usize].len() as i64;
            self.extend(Column::IdOffsets, &end.to_le_bytes());
            self.hashes.insert(id_hash(id));
        }
        self.rows += ids.len();
        // The index, which is made when the shard is written.
        self.bytes += ids.len() * (Column::IdHash.width() + Column::IdRow.width());
    }

    /// Whether an id waits here.
    pub fn contains(&self, hash: i64, id: &str) -> bool {
        // Equal hashes of different ids occur once in 2^63, so the scan is as good as only made to name a duplicate.
        self.hashes.contains(&hash) && self.ids().any(|waiting| waiting == id.as_bytes())
    }

    fn ids(&self) -> impl Iterator<Item = &[u8]> {
        let offsets = self.columns[Column::IdOffsets as usize].as_chunks::<8>().0;
        let ids = &self.columns[Column::Ids as usize];
        offsets.windows(2).map(|pair| {
            let [start, end] = [pair[0], pair[1]].map(|offset| i64::from_le_bytes(offset) as usize);
            &ids[start..end]
        })
    }

    /// Empties the buffer but keeps its memory, so that its pages are fetched from the system once a writer.
    pub fn clear(&mut self) {
        self.columns.iter_mut().for_each(Vec::clear);
        self.columns[Column::IdOffsets as usize].resize(8, 0);
        self.columns[Column::Offsets as usize].resize(8, 0);
        self.hashes.clear();
        (self.rows, self.descriptors, self.bytes) = (0, 0, 0);
    }

    /// Writes the rows as a shard. The buffer stays as it is.
    ///
    /// `tail` are the last elements of the main tensor, which need not be copied to the buffer first.
    pub fn write(&self, spec: &Spec, tail: &[u8], file: &mut ShardFile) -> std::io::Result<()> {
        let mut index: Vec<(i64, i32)> =
            self.ids().enumerate().map(|(row, id)| (id_hash(id), row as i32)).collect();
        index.sort_unstable();
        let (hashes, rows): (Vec<i64>, Vec<i32>) = index.into_iter().unzip();
        let id_bytes = self.columns[Column::Ids as usize].len();
        let (header, ranges) =
            layout(&spec.parts(self.rows, self.descriptors, id_bytes), spec.kind().name(), 0);
        file.write(&header)?;
        let mut columns: Vec<(Range<usize>, Column)> = ranges.into_iter().zip(spec.all_columns()).collect();
        columns.sort_by_key(|(range, _)| range.start);
        let mut end = header.len();
        for (range, column) in columns {
            let bytes = match column {
                Column::IdHash => bytes_of(&hashes),
                Column::IdRow => bytes_of(&rows),
                _ => &self.columns[column as usize],
            };
            let tail = if column == spec.main() { tail } else { &[] };
            debug_assert_eq!(bytes.len() + tail.len(), range.len(), "{column:?}");
            file.write(&vec![0; range.start - end])?;
            file.write(bytes)?;
            file.write(tail)?;
            end = range.end;
        }
        Ok(())
    }
}
