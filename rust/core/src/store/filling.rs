//! Rows on their way into shards: a few wait in memory, many go to the file of the next shard, full shards to the disk.

use crate::control::Control;
use crate::error::Result;

use super::SHARDS;
use super::batch::Batch;
use super::buffer::reserved;
use super::disk;
use super::entry::{Entry, Listed};
use super::mmap::bytes_of;
use super::shard::Shard;
use super::tombstones::Tombstones;
use super::write_file::{ShardFile, Syncing};
use super::writer::Writer;

/// Rows wait in memory until their main tensor has this many bytes: little enough to stay in a cache.
const SPILL: usize = if cfg!(test) { 64 } else { 4 << 20 };

impl Writer {
    /// Moves checked rows to the buffer, writing shards as it fills.
    pub(super) fn take<S: AsRef<str>>(
        &mut self,
        ids: &[S],
        batch: &Batch<'_>,
        control: &Control,
    ) -> Result<()> {
        let mut start = 0;
        let id_bytes: usize = ids.iter().map(|id| id.as_ref().len()).sum();
        // The tables of an id take 20 bytes.
        let overhead = id_bytes / ids.len().max(1) + 20;
        while start < ids.len() {
            let room = self.shard_bytes.saturating_sub(self.buffer.bytes());
            let rows = self.rows_that_fit(batch, start, ids.len() - start, overhead, room);
            let end = start + rows;
            let main: &[u8] = match batch {
                Batch::Global(vectors) => {
                    let dim = self.manifest.spec.dim();
                    bytes_of(&vectors[start * dim..end * dim])
                }
                Batch::Binary(codes) => {
                    let width = self.manifest.spec.code_bytes();
                    &codes[start * width..end * width]
                }
                Batch::Local(batch) => {
                    super::local::extend(&mut self.buffer, batch, start..end, &self.manifest.spec);
                    &[]
                }
            };
            self.buffer.extend_ids(&ids[start..end]);
            start = end;
            self.take_main(main)?;
            if self.buffer.bytes() >= self.shard_bytes {
                self.flush()?;
                control.advance(rows as u64)?;
            }
        }
        Ok(())
    }

    /// About how many of the next rows fill `room` bytes: at least one. `overhead` are the bytes of an id.
    fn rows_that_fit(
        &self,
        batch: &Batch<'_>,
        start: usize,
        left: usize,
        overhead: usize,
        room: usize,
    ) -> usize {
        let spec = &self.manifest.spec;
        let rows = match batch {
            Batch::Global(_) => room.div_ceil(2 * spec.dim() + overhead),
            Batch::Binary(_) => room.div_ceil(spec.code_bytes() + overhead),
            Batch::Local(batch) => {
                let most = (room / (spec.code_bytes() + 2 * spec.dim() + 8)) as i64 + batch.offsets[start];
                batch.offsets[start + 1..].partition_point(|end| *end <= most)
            }
        };
        rows.clamp(1, left)
    }

    /// Takes elements of the main tensor: a few wait in memory, many go to the file of the next shard.
    fn take_main(&mut self, main: &[u8]) -> Result<()> {
        if self.buffer.main(&self.manifest.spec).len() + main.len() < SPILL {
            self.buffer.extend(self.manifest.spec.main(), main);
            return Ok(());
        }
        self.spill()?;
        if main.len() < SPILL / 2 {
            self.buffer.extend(self.manifest.spec.main(), main);
            return Ok(());
        }
        self.settle()?;
        self.file()?.append(main)?;
        self.buffer.count(main.len());
        Ok(())
    }

    /// The file of the next shard.
    fn file(&mut self) -> Result<&mut ShardFile> {
        if self.file.is_none() {
            let reserved = reserved(&self.manifest.spec);
            self.file = Some(ShardFile::create(&self.path.join(SHARDS), self.sequence, reserved)?);
        }
        Ok(self.file.as_mut().expect("just created"))
    }

    /// Moves what waits of the main tensor to the file, while the next rows come.
    fn spill(&mut self) -> Result<()> {
        let spare = self.settle()?;
        let waiting = self.buffer.exchange_main(&self.manifest.spec, spare);
        if waiting.is_empty() { Ok(()) } else { self.file()?.append_behind(waiting) }
    }

    /// Waits until what was spilled is in the file and gives its memory back; if it is not, it waits again.
    fn settle(&mut self) -> Result<Vec<u8>> {
        let Some(file) = self.file.as_mut() else { return Ok(Vec::new()) };
        let (mut memory, settled) = file.settle();
        if settled.is_err() {
            memory.extend_from_slice(self.buffer.main(&self.manifest.spec));
            self.buffer.exchange_main(&self.manifest.spec, std::mem::take(&mut memory));
        }
        settled.map(|()| memory)
    }

    /// Completes the next shard, which no manifest lists yet. If it fails it can be repeated.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.buffer.rows() == 0 {
            return Ok(());
        }
        // Two shards on their way to the disk keep it busy; more would only fill the page cache.
        while self.syncing.len() > 1 {
            self.wait_for_oldest()?;
        }
        let began = self.file.is_some();
        let finished = self.finish_shard();
        if finished.is_err() && !began {
            // All rows still wait in memory, so nothing is lost with the file.
            self.remove_partial();
        }
        let (file, syncing) = finished?;
        self.file = None;
        self.syncing.push_back(syncing);
        let (rows, descriptors) = (self.buffer.rows(), self.buffer.descriptors());
        let entry = Entry { file, rows, descriptors, derived: Vec::new(), deleted: Tombstones::default() };
        self.buffer.clear();
        self.sequence = self.sequence.saturating_add(1);
        let shard = Shard::open(&self.path, &self.manifest.spec, &entry);
        self.manifest.shards.push(entry);
        let mut shard = shard.inspect_err(|_| self.failed = true)?;
        shard.prepare_to_miss();
        self.shards.push(shard);
        Ok(())
    }

    fn finish_shard(&mut self) -> Result<(Listed, Syncing)> {
        self.settle()?;
        let began = self.file.is_some();
        self.file()?;
        let file = self.file.as_mut().expect("just created");
        let waiting = self.buffer.main(&self.manifest.spec);
        if !waiting.is_empty() {
            file.append(waiting)?;
            if began {
                // The rest may fail and be repeated with this file, so they must not be appended twice. If the file
                // is new they are all there is, and stay in memory until it is complete.
                self.buffer.clear_main(&self.manifest.spec);
            }
        }
        self.buffer.finish(&self.manifest.spec, self.sequence, file)
    }

    pub(super) fn wait_for_oldest(&mut self) -> Result<()> {
        let Some(oldest) = self.syncing.pop_front() else {
            return Ok(());
        };
        // After a failed sync nobody knows what is on the disk.
        oldest.wait().inspect_err(|_| self.failed = true)
    }

    /// Best effort: what stays is listed by `verify` and removed by `gc`.
    pub(super) fn remove_partial(&mut self) {
        if let Some(file) = self.file.take() {
            let _ = disk::remove(file.partial());
        }
    }
}
