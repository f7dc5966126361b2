//! Compaction: deleted rows are dropped, small shards merged.

use std::ops::Range;
use std::path::Path;

use crate::control::Control;
use crate::error::{Error, Result};

use super::entry::Entry;
use super::manifest::Manifest;
use super::rows::{BATCH_BYTES, Rows, step};
use super::verify::check_file;
use super::{SHARDS, Writer};

/// What [`compact`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Shards that were rewritten.
    pub rewritten: usize,
    /// Shards that took their place.
    pub written: usize,
    /// Deleted rows that were dropped.
    pub dropped: usize,
}

/// Drops deleted rows and merges shards of less than half of `shard_bytes`; rows keep their numbers and order.
///
/// Stretches of shards are rewritten one after the other, each with a commit of its own, so an interrupted or
/// killed compaction keeps what it did and goes on when it is called again. A stretch is read back against its
/// checksums before it is given up. Derived files of rewritten shards are dropped. Readers keep the shards they
/// opened. Needs room for one stretch: about `shard_bytes`. Advances `control` by the rows written.
///
/// # Errors
/// [`Error::Locked`]; [`Error::Corrupt`] naming a damaged shard, which stays as it is; [`Error::Io`].
pub fn compact(path: &Path, shard_bytes: usize, control: &Control) -> Result<Compacted> {
    let mut writer = Writer::open_append(path)?;
    writer.set_shard_bytes(shard_bytes)?;
    let mut done = Compacted::default();
    let mut from = 0;
    while let Some(stretch) = next_stretch(&writer.manifest.shards, from, shard_bytes) {
        let before = writer.manifest.shards.len();
        done.dropped +=
            writer.manifest.shards[stretch.clone()].iter().map(|entry| entry.deleted.rows()).sum::<usize>();
        done.rewritten += stretch.len();
        writer.rewrite(stretch.clone(), control)?;
        let written = writer.manifest.shards.len() + stretch.len() - before;
        done.written += written;
        // The last of them may be small, and the beginning of the next stretch.
        from = stretch.start + written.saturating_sub(1);
    }
    Ok(done)
}

/// About how many rows [`compact`] would write: how far it counts.
pub fn compactable_rows(path: &Path, shard_bytes: usize) -> Result<usize> {
    let shards = Manifest::read(path)?.0.shards;
    let (mut from, mut rows) = (0, 0);
    while let Some(stretch) = next_stretch(&shards, from, shard_bytes) {
        from = stretch.end;
        rows += shards[stretch].iter().map(Entry::live).sum::<usize>();
    }
    Ok(rows)
}

/// The next shards, from `from` on, that are better rewritten together.
fn next_stretch(shards: &[Entry], from: usize, shard_bytes: usize) -> Option<Range<usize>> {
    let good = |entry: &Entry| entry.deleted.rows() == 0 && entry.file.bytes as usize >= shard_bytes / 2;
    let mut start = from;
    while start < shards.len() {
        let (mut end, mut bytes) = (start, 0_u64);
        while end < shards.len() && !good(&shards[end]) && bytes < shard_bytes as u64 {
            let entry = &shards[end];
            bytes += entry.file.bytes / entry.rows as u64 * entry.live() as u64;
            end += 1;
        }
        // A small shard alone stays.
        if end > start + 1 || (end == start + 1 && shards[start].deleted.rows() > 0) {
            return Some(start..end);
        }
        start = end.max(start + 1);
    }
    None
}

impl Writer {
    /// Replaces consecutive shards by new ones with their live rows, and commits.
    fn rewrite(&mut self, stretch: Range<usize>, control: &Control) -> Result<()> {
        let outcome = self.refill(stretch.clone(), control).and_then(|()| self.put_in_place(stretch));
        if outcome.is_err() {
            self.discard_pending();
        }
        outcome
    }

    /// Writes the live rows of the stretch to shards at the end, which no manifest lists yet.
    fn refill(&mut self, stretch: Range<usize>, control: &Control) -> Result<()> {
        let spec = self.spec().clone();
        for (entry, shard) in self.manifest.shards[stretch.clone()].iter().zip(&self.shards[stretch.clone()])
        {
            if let Some(damage) = check_file(&self.path, &entry.file, false, &Control::new())?.first() {
                let detail = format!("bytes {} to {}: {}", damage.start, damage.end, damage.detail);
                return Err(Error::corrupt(self.path.join(SHARDS).join(&damage.file), detail));
            }
            // Nobody looks at the rows again on their way into the new shards.
            shard.check_tables(spec.kind())?;
            control.advance(0)?;
        }
        let mut copied = Rows::new();
        let step = step(&spec);
        for shard in stretch {
            let live: Vec<Range<usize>> = self.shards[shard].live().collect();
            let starts = live.iter().flat_map(|run| run.clone().step_by(step).map(|first| (first, run.end)));
            for (first, end) in starts {
                copied.extend(&spec, &self.shards[shard], first..end.min(first + step))?;
                if copied.bytes() >= BATCH_BYTES {
                    self.take(&copied.ids, &copied.batch(&spec), &Control::new())?;
                    control.advance(copied.ids.len() as u64)?;
                    copied.clear();
                }
            }
        }
        self.take(&copied.ids, &copied.batch(&spec), &Control::new())?;
        control.advance(copied.ids.len() as u64)?;
        self.flush()?;
        while !self.syncing.is_empty() {
            self.wait_for_oldest()?;
        }
        Ok(())
    }

    /// Moves the new shards to the place of the stretch and publishes that.
    fn put_in_place(&mut self, stretch: Range<usize>) -> Result<()> {
        super::write_file::sync_folder(&self.path.join(SHARDS))?;
        let committed = self.committed;
        let mut manifest = self.manifest.clone();
        let new = manifest.shards.split_off(committed);
        manifest.shards.splice(stretch.clone(), new);
        let new = self.shards.split_off(committed);
        let old: Vec<_> = self.shards.splice(stretch.clone(), new).collect();
        let count = manifest.shards.len() + stretch.len() - committed;
        let name = manifest.shards.get(stretch.start).map(|entry| entry.file.name.clone());
        let outcome = self.publish(manifest);
        // `publish` fails before or after the manifest is in place; only before it the old shards come back.
        let in_place = outcome.is_ok()
            || self.manifest.shards.get(stretch.start).map(|entry| entry.file.name.clone()) == name;
        if !in_place {
            let new: Vec<_> = self.shards.splice(stretch.start..stretch.start + count, old).collect();
            self.shards.extend(new);
        }
        outcome
    }

    /// Drops rows that wait for a commit, and their files.
    fn discard_pending(&mut self) {
        self.buffer.clear();
        self.remove_partial();
        for entry in self.manifest.shards.drain(self.committed..) {
            let _ = super::disk::remove(&self.path.join(SHARDS).join(&entry.file.name));
        }
        self.shards.truncate(self.committed);
    }
}
