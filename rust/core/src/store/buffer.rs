//! Rows that wait to become a shard.

use crate::error::Result;

use super::entry::Listed;
use super::ids::{HashesOfIds, id_hash};
use super::layout::layout;
use super::mmap::bytes_of;
use super::spec::{Column, Spec};
use super::write_file::{ShardFile, Syncing};

/// The tensors of the next shard, growing.
#[derive(Debug)]
pub(super) struct Buffer {
    columns: [Vec<u8>; Column::COUNT],
    hashes: HashesOfIds,
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
        Self { columns, hashes: HashesOfIds::default(), rows: 0, descriptors: 0, bytes: 0 }
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

    /// The elements of the main tensor that are not in the file yet.
    pub fn main(&self, spec: &Spec) -> &[u8] {
        &self.columns[spec.main() as usize]
    }

    /// Forgets elements of the main tensor that are in the file; they still count.
    pub fn clear_main(&mut self, spec: &Spec) {
        self.columns[spec.main() as usize].clear();
    }

    /// The elements of the main tensor that are not in the file yet, for others in their place.
    pub fn exchange_main(&mut self, spec: &Spec, others: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.columns[spec.main() as usize], others)
    }

    /// Counts elements of the main tensor that went to the file without passing here.
    pub fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Completes `file`, which has the main tensor already. The buffer stays as it is.
    pub fn finish(&self, spec: &Spec, sequence: usize, file: &mut ShardFile) -> Result<(Listed, Syncing)> {
        let mut index: Vec<(i64, i32)> =
            self.ids().enumerate().map(|(row, id)| (id_hash(id), row as i32)).collect();
        index.sort_unstable();
        let (hashes, rows): (Vec<i64>, Vec<i32>) = index.into_iter().unzip();
        let id_bytes = self.columns[Column::Ids as usize].len();
        let parts = spec.parts(self.rows, self.descriptors, id_bytes);
        let (header, ranges) = layout(&parts, spec.kind().name(), reserved(spec));
        let mut rest: Vec<(usize, &[u8])> = ranges
            .iter()
            .zip(spec.all_columns())
            .filter(|(_, column)| *column != spec.main())
            .map(|(range, column)| match column {
                Column::IdHash => (range.start, bytes_of(&hashes)),
                Column::IdRow => (range.start, bytes_of(&rows)),
                _ => (range.start, &self.columns[column as usize][..]),
            })
            .collect();
        // Empty tensors may begin where others do.
        rest.sort_by_key(|(start, bytes)| (*start, bytes.len()));
        file.finish(sequence, &header, &rest)
    }
}

/// Room for the header of any shard of the spec.
pub(super) fn reserved(spec: &Spec) -> usize {
    layout(&spec.parts(i32::MAX as usize, 1 << 40, 1 << 43), spec.kind().name(), 0).0.len()
}
