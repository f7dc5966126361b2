//! Reading a store: one committed state, mapped.

use std::path::{Path, PathBuf};

use half::f16;

use crate::control::Control;
use crate::error::{Error, Result};

use super::attached::Attached;
use super::ids::sorted_hashes;
use super::manifest::Manifest;
use super::mmap::Plain;
use super::shard::Shard;
use super::spec::{Column, Kind, Spec};
use super::views::{LocalView, ShardView};

/// How often `open` starts again when a commit or `gc` replaces the state it is just opening.
const RETRIES: usize = 16;
/// Rows gathered between two looks at the control.
const GATHER_BLOCK: usize = 1024;

/// One committed state of a store, memory-mapped. Immutable, cheap to share between threads.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    manifest: Manifest,
    checksum: u64,
    pub(super) shards: Vec<Shard>,
    /// What of the shards is in the store, in row order.
    runs: Vec<Run>,
    /// First row of each run, and the number of rows at the end.
    starts: Vec<usize>,
}

/// Consecutive rows of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The shard they lie in.
    pub shard: usize,
    /// The first of them, as a row of the shard.
    pub first: usize,
    /// How many.
    pub rows: usize,
    /// The first of them, as a row of the store.
    pub row: usize,
}

impl Store {
    /// Opens the state that is committed now.
    ///
    /// Checks the manifest completely, and of every shard the size, header, dtypes, shapes and alignment;
    /// [`super::verify()`] also reads and checks all bytes. O(shards).
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::Corrupt`] naming the file, [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let (mut manifest, mut checksum) = Manifest::read(path)?;
        for _ in 0..RETRIES {
            let shards: Result<Vec<Shard>> =
                manifest.shards.iter().map(|entry| Shard::open(path, &manifest.spec, entry)).collect();
            let complete = shards.as_ref().is_ok_and(|shards| shards.iter().all(Shard::is_complete));
            if !complete {
                // A file of the state just read may have been removed because a newer state replaced it.
                let newer = Manifest::read(path)?;
                if newer.1 != checksum {
                    (manifest, checksum) = newer;
                    continue;
                }
            }
            return shards.map(|shards| Self::assemble(path, manifest, checksum, shards));
        }
        Err(Error::Locked { path: path.to_owned() })
    }

    fn assemble(path: &Path, manifest: Manifest, checksum: u64, shards: Vec<Shard>) -> Self {
        let (mut runs, mut starts) = (Vec::new(), vec![0]);
        let mut row = 0;
        for (number, shard) in shards.iter().enumerate() {
            for live in shard.live() {
                runs.push(Run { shard: number, first: live.start, rows: live.len(), row });
                row += live.len();
                starts.push(row);
            }
        }
        Self { path: path.to_owned(), manifest, checksum, shards, runs, starts }
    }

    /// Number of rows (images).
    pub fn len(&self) -> usize {
        self.starts[self.runs.len()]
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the store holds.
    pub const fn spec(&self) -> &Spec {
        &self.manifest.spec
    }

    /// Global, binary or local.
    pub const fn kind(&self) -> Kind {
        self.manifest.spec.kind()
    }

    /// Numbers a vector; 0 if the store holds codes.
    pub fn dim(&self) -> usize {
        self.manifest.spec.dim()
    }

    /// Bits a code; 0 if the store holds vectors.
    pub fn bits(&self) -> usize {
        self.manifest.spec.bits()
    }

    /// Bytes a packed code; 0 if the store holds vectors.
    pub fn code_bytes(&self) -> usize {
        self.manifest.spec.code_bytes()
    }

    /// Number of local descriptors of all images, deleted ones included; 0 in other kinds.
    pub fn descriptors(&self) -> usize {
        self.shards.iter().map(Shard::descriptors).sum()
    }

    /// Number of rows that are deleted and still take room, until [`super::compact()`].
    pub fn deleted(&self) -> usize {
        self.shards.iter().map(Shard::rows).sum::<usize>() - self.len()
    }

    /// Bytes of all shard files.
    pub fn bytes(&self) -> u64 {
        self.manifest.shards.iter().map(|entry| entry.file.bytes).sum()
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// One shard, with everything its file holds.
    pub fn shard(&self, shard: usize) -> Result<ShardView<'_>> {
        self.shards
            .get(shard)
            .map(ShardView::new)
            .ok_or_else(|| Error::parameter("shard", format!("a shard below {}", self.shards.len()), shard))
    }

    /// Tensors of that kind computed from a shard; as [`ShardView::attached`].
    pub fn attached(&self, shard: usize, kind: &str) -> Result<Option<&Attached>> {
        self.shard(shard)?.attached(kind)
    }

    /// What has been computed from shards, with the number of shards that have it, and the bytes of the files.
    pub fn derived(&self) -> Vec<(&str, usize, u64)> {
        let mut found: Vec<(&str, usize, u64)> = Vec::new();
        for derived in self.manifest.shards.iter().flat_map(|entry| &entry.derived) {
            match found.iter_mut().find(|(kind, ..)| *kind == derived.kind) {
                Some((_, shards, bytes)) => (*shards, *bytes) = (*shards + 1, *bytes + derived.file.bytes),
                None => found.push((&derived.kind, 1, derived.file.bytes)),
            }
        }
        found
    }

    /// Where the rows of the store lie: runs of consecutive rows of a shard, in row order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// First row of each run, and the number of rows at the end.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// What the rows were made of and how: a JSON object.
    pub fn provenance(&self) -> &str {
        &self.manifest.provenance
    }

    /// The store this one was derived from: a JSON object.
    pub fn parent(&self) -> Option<&str> {
        self.manifest.parent.as_deref()
    }

    /// Checksum of the manifest: it names this state.
    pub const fn checksum(&self) -> u64 {
        self.checksum
    }

    pub(super) fn into_parts(self) -> (Manifest, Vec<Shard>) {
        (self.manifest, self.shards)
    }

    /// An error unless the store is of that kind.
    pub fn expect_kind(&self, kind: Kind) -> Result<()> {
        if self.kind() == kind {
            return Ok(());
        }
        Err(Error::Incompatible {
            path: self.path.clone(),
            expected: format!("a {} store", kind.name()),
            found: self.spec().describe(),
        })
    }

    fn main<T: Plain>(&self, kind: Kind, column: Column, width: usize) -> Result<Vec<&[T]>> {
        self.expect_kind(kind)?;
        let slice = |run: &Run| {
            &self.shards[run.shard].column(column)[run.first * width..(run.first + run.rows) * width]
        };
        Ok(self.runs.iter().map(slice).collect())
    }

    /// The vectors of a global store: one slice of whole rows a run, in row order.
    pub fn vectors(&self) -> Result<Vec<&[f16]>> {
        self.main(Kind::Global, Column::Vectors, self.dim())
    }

    /// The codes of a binary store: one slice of whole rows a run, in row order.
    pub fn codes(&self) -> Result<Vec<&[u8]>> {
        self.main(Kind::Binary, Column::Codes, self.code_bytes())
    }

    /// One vector of a global store.
    pub fn vector(&self, row: usize) -> Result<&[f16]> {
        self.expect_kind(Kind::Global)?;
        let (shard, row) = self.locate(row)?;
        Ok(&shard.column(Column::Vectors)[row * self.dim()..(row + 1) * self.dim()])
    }

    /// One code of a binary store.
    pub fn code(&self, row: usize) -> Result<&[u8]> {
        self.expect_kind(Kind::Binary)?;
        let (shard, row) = self.locate(row)?;
        Ok(&shard.column(Column::Codes)[row * self.code_bytes()..(row + 1) * self.code_bytes()])
    }

    /// Rows from this one to the end of its run, itself included.
    pub(super) fn left_in_run(&self, row: usize) -> usize {
        self.starts[self.starts.partition_point(|start| *start <= row)] - row
    }

    pub(super) fn locate(&self, row: usize) -> Result<(&Shard, usize)> {
        if row >= self.len() {
            return Err(Error::parameter("row", format!("a row below {}", self.len()), row));
        }
        let run = self.runs[self.starts.partition_point(|start| *start <= row) - 1];
        Ok((&self.shards[run.shard], run.first + row - run.row))
    }

    /// The local descriptors of one image of a local store.
    pub fn local(&self, row: usize) -> Result<LocalView<'_>> {
        self.expect_kind(Kind::Local)?;
        let (shard, row) = self.locate(row)?;
        let range = shard.descriptors_of(row)?;
        let numbers = |column| shard.optional::<f32>(column).map(|values| &values[range.clone()]);
        let (bytes, dim) = (shard.code_bytes(), self.dim());
        let size = &shard.column::<i32>(Column::Size)[2 * row..2 * row + 2];
        let side = |value: i32| {
            u32::try_from(value).map_err(|_| shard.corrupt(format!("tensor \"size\": row {row} is {size:?}")))
        };
        Ok(LocalView {
            codes: &shard.column(Column::Codes)[range.start * bytes..range.end * bytes],
            descriptors: &shard.column(Column::Descriptors)[range.start * dim..range.end * dim],
            xy: &shard.column(Column::Xy)[2 * range.start..2 * range.end],
            scale: numbers(Column::Scale),
            angle: numbers(Column::Angle),
            weight: numbers(Column::Weight),
            size: [side(size[0])?, side(size[1])?],
        })
    }

    /// The id of a row.
    pub fn id(&self, row: usize) -> Result<&str> {
        let (shard, row) = self.locate(row)?;
        shard.id(row)
    }

    /// The row of each id, `None` where the store does not have it.
    ///
    /// O(b log(n / b)) for each shard of n rows and b ids; touches only the index and the ids found.
    pub fn find<S: AsRef<str>>(&self, ids: &[S]) -> Result<Vec<Option<usize>>> {
        let hashes = sorted_hashes(ids);
        let mut rows = vec![None; ids.len()];
        for (number, shard) in self.shards.iter().enumerate() {
            shard.find(&hashes, ids, |position, row| {
                // The last run that begins at or before the row: it is not deleted, so that run has it.
                let after = self.runs.partition_point(|run| (run.shard, run.first) <= (number, row));
                let run = &self.runs[after - 1];
                rows[position] = Some(run.row + row - run.first);
                Ok(())
            })?;
        }
        Ok(rows)
    }

    /// Copies rows of a global store, in any order and with repetitions, to `out` (`rows.len() * dim`).
    pub fn gather_vectors(&self, rows: &[usize], out: &mut [f16], control: &Control) -> Result<()> {
        self.expect_kind(Kind::Global)?;
        self.gather(Column::Vectors, self.dim(), rows, out, control)
    }

    /// Copies rows of a binary store, in any order and with repetitions, to `out` (`rows.len() * code_bytes`).
    pub fn gather_codes(&self, rows: &[usize], out: &mut [u8], control: &Control) -> Result<()> {
        self.expect_kind(Kind::Binary)?;
        self.gather(Column::Codes, self.code_bytes(), rows, out, control)
    }

    fn gather<T: Plain>(
        &self,
        column: Column,
        width: usize,
        rows: &[usize],
        out: &mut [T],
        control: &Control,
    ) -> Result<()> {
        if out.len() != rows.len() * width {
            return Err(Error::shape(
                "out",
                format!("{} elements", rows.len() * width),
                out.len().to_string(),
            ));
        }
        for (rows, out) in rows.chunks(GATHER_BLOCK).zip(out.chunks_mut(GATHER_BLOCK * width)) {
            for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
                let (shard, row) = self.locate(*row)?;
                out.copy_from_slice(&shard.column(column)[row * width..(row + 1) * width]);
            }
            control.advance(rows.len() as u64)?;
        }
        Ok(())
    }

    /// Checks offsets, ids and the id index of every shard. O(rows).
    pub fn check_tables(&self, control: &Control) -> Result<()> {
        for shard in &self.shards {
            shard.check_tables(self.kind())?;
            control.advance(0)?;
        }
        Ok(())
    }
}
