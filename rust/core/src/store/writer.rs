//! Appending to a store: validate, buffer, write shards, commit.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};

use crate::control::Control;
use crate::error::{Error, Result};

use super::batch::Batch;
use super::buffer::Buffer;
use super::disk;
use super::entry::Entry;
use super::lock::{Lock, holds_foreign_files, lock};
use super::manifest::{Manifest, json_object};
use super::shard::Shard;
use super::spec::Spec;
use super::write_file::{ShardFile, Syncing, create_folders, replace, sync_folder};
use super::{LOCK, MANIFEST, SHARD_BYTES, SHARDS, Store};

/// The one writer of a store.
///
/// Appended rows become visible, all at once, with [`Self::commit`]. Dropping the writer, or killing the
/// process, loses what was not committed and nothing else.
#[derive(Debug)]
pub struct Writer {
    pub(super) path: PathBuf,
    /// Committed and pending shards; only the first `committed` are in the manifest on disk.
    pub(super) manifest: Manifest,
    pub(super) shards: Vec<Shard>,
    pub(super) committed: usize,
    /// Shards of the store that is being overwritten.
    replaced: Vec<String>,
    pub(super) buffer: Buffer,
    pub(super) shard_bytes: usize,
    pub(super) sequence: usize,
    /// The next shard, once rows of it are in a file.
    pub(super) file: Option<ShardFile>,
    /// Shards on their way to the disk.
    pub(super) syncing: VecDeque<Syncing>,
    /// Whether rows of a refused batch may have been taken, or what is on the disk is not known.
    pub(super) failed: bool,
    /// Whether the folder is of its making and nothing is committed there yet.
    began: bool,
    lock: Lock,
}

impl Writer {
    /// Starts a store at `path`, which comes into being with the first commit.
    ///
    /// The path must be free, an empty folder, or what a writer killed before its first commit left. With
    /// `overwrite` it may also be a store, which stays whole until the first commit replaces it. `provenance`
    /// and `parent` are JSON objects.
    pub fn create(
        path: &Path,
        spec: Spec,
        provenance: &str,
        parent: Option<&str>,
        overwrite: bool,
    ) -> Result<Self> {
        let provenance = json_object("provenance", provenance)?;
        let parent = parent.map(|parent| json_object("parent", parent)).transpose()?;
        let manifest = Manifest { spec, shards: Vec::new(), provenance, parent };
        let is_store = path.join(MANIFEST).exists();
        if path.exists()
            && !(is_store && overwrite)
            && (is_store || !path.is_dir() || holds_foreign_files(path)?)
        {
            if overwrite && path.exists() && !is_store {
                let found = if path.is_dir() { "a folder with other files" } else { "a file" };
                let detail = format!("expected a free path or a store to overwrite, found {found}");
                return Err(Error::NotAStore { path: path.to_owned(), detail });
            }
            return Err(Error::StoreExists { path: path.to_owned() });
        }
        let began = !path.exists();
        create_folders(&path.join(SHARDS))?;
        let lock = lock(path)?;
        // Again, now that nobody else can write: another `create` may have come first.
        let mut replaced = Vec::new();
        if path.join(MANIFEST).exists() {
            if !overwrite {
                return Err(Error::StoreExists { path: path.to_owned() });
            }
            // An unreadable old manifest does not keep a store from being replaced; `gc` tidies its shards.
            if let Ok((old, _)) = Manifest::read(path) {
                replaced = old.files().map(|file| file.name.clone()).collect();
            }
        }
        let mut writer = Self::new(path, manifest, Vec::new(), replaced, lock);
        writer.began = began;
        Ok(writer)
    }

    /// Opens a store to append to it.
    pub fn open_append(path: &Path) -> Result<Self> {
        // Before the lock, which would create a file in a folder that is no store.
        Manifest::read(path)?;
        let lock = lock(path)?;
        let (manifest, shards) = Store::open(path)?.into_parts();
        Ok(Self::new(path, manifest, shards, Vec::new(), lock))
    }

    fn new(path: &Path, manifest: Manifest, shards: Vec<Shard>, replaced: Vec<String>, lock: Lock) -> Self {
        // One more than the highest number in use, so that names sort by age.
        let number = |name: &str| name.split('-').next().and_then(|number| number.parse::<usize>().ok());
        let used = manifest
            .shards
            .iter()
            .map(|entry| entry.file.name.as_str())
            .chain(replaced.iter().map(String::as_str));
        let sequence = used.filter_map(number).max().map_or(0, |highest| highest.saturating_add(1));
        Self {
            path: path.to_owned(),
            committed: shards.len(),
            manifest,
            shards,
            replaced,
            buffer: Buffer::default(),
            shard_bytes: SHARD_BYTES,
            sequence,
            file: None,
            syncing: VecDeque::new(),
            failed: false,
            began: false,
            lock,
        }
    }

    /// Cuts shards at about `bytes` bytes instead of [`SHARD_BYTES`].
    pub fn set_shard_bytes(&mut self, bytes: usize) -> Result<()> {
        // A row takes at least 10 bytes, so the row numbers of a shard fit an i32.
        if !(1..=16 << 30).contains(&bytes) {
            return Err(Error::parameter("shard_bytes", "1 to 16 GiB", bytes));
        }
        self.shard_bytes = bytes;
        Ok(())
    }

    /// Replaces the provenance (a JSON object) from the next commit on.
    pub fn set_provenance(&mut self, provenance: &str) -> Result<()> {
        self.manifest.provenance = json_object("provenance", provenance)?;
        Ok(())
    }

    /// What the next commit will record as provenance.
    pub fn provenance(&self) -> &str {
        &self.manifest.provenance
    }

    /// What the store holds.
    pub const fn spec(&self) -> &Spec {
        &self.manifest.spec
    }

    /// Rows, committed or not.
    pub fn len(&self) -> usize {
        self.manifest.rows() + self.buffer.rows()
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends rows; they are visible after the next [`Self::commit`].
    ///
    /// A batch that is refused (wrong shape, kind or value, bad or duplicate id) leaves the writer as it was.
    /// After [`Error::Io`] or [`Error::Interrupted`] part of the batch may have been taken, so the writer
    /// accepts nothing more; what was committed is untouched.
    pub fn append<S: AsRef<str>>(&mut self, ids: &[S], batch: &Batch<'_>, control: &Control) -> Result<()> {
        self.check_usable()?;
        self.check(ids, batch)?;
        let outcome = self.take(ids, batch, control);
        self.failed = outcome.is_err();
        outcome
    }

    fn check_usable(&self) -> Result<()> {
        if !self.lock.is_ours() {
            // Its lock is the parent's, and so are the threads that write.
            let found = "a copy of it in a forked process (open the store to append there)";
            return Err(Error::parameter("writer", "the one that was opened", found));
        }
        if self.failed {
            let found = "one whose last write failed (close it, and open the store to append)";
            return Err(Error::parameter("writer", "a usable writer", found));
        }
        Ok(())
    }

    /// Makes everything appended so far durable and visible, at once; returns the number of rows.
    ///
    /// If it fails with [`Error::Io`] before the new manifest is in place, the store is as it was, nothing
    /// appended is lost, and `commit` can be called again (for example after making room on the disk).
    pub fn commit(&mut self) -> Result<usize> {
        self.check_usable()?;
        self.flush()?;
        while !self.syncing.is_empty() {
            self.wait_for_oldest()?;
        }
        sync_folder(&self.path.join(SHARDS))?;
        self.publish(self.manifest.clone())?;
        Ok(self.manifest.rows())
    }

    /// Replaces the manifest on disk, and removes the files that it does not list any more.
    ///
    /// The files it lists are synced, and so is their folder.
    pub(super) fn publish(&mut self, manifest: Manifest) -> Result<()> {
        let synced = replace(&self.path.join(MANIFEST), &manifest.serialise().0)?;
        // The new manifest is in place, so its files are not ours to tidy away any more, whatever happens next.
        let old = std::mem::replace(&mut self.manifest, manifest);
        self.committed = self.shards.len();
        self.began = false;
        self.failed = synced.is_err();
        synced?;
        for (index, (shard, entry)) in self.shards.iter_mut().zip(&self.manifest.shards).enumerate() {
            let same = |old: &Entry| old.derived == entry.derived && old.deleted == entry.deleted;
            if !old.shards.get(index).is_some_and(same) {
                shard.update(&self.path, entry);
            }
        }
        let listed: HashSet<&str> = self.manifest.files().map(|file| file.name.as_str()).collect();
        let replaced = std::mem::take(&mut self.replaced);
        for name in old.files().map(|file| &file.name).chain(&replaced) {
            if !listed.contains(name.as_str()) {
                // Best effort: what stays is a leftover.
                let _ = disk::remove(&self.path.join(SHARDS).join(name));
            }
        }
        Ok(())
    }

    /// An error while rows wait for a commit: what `action` commits must not commit them too.
    pub(super) fn check_nothing_waits(&self, action: &str) -> Result<()> {
        self.check_usable()?;
        if self.buffer.rows() == 0 && self.committed == self.shards.len() {
            return Ok(());
        }
        let expected = format!("none that wait for a commit (commit before you {action})");
        Err(Error::parameter(
            "rows",
            expected,
            self.len() - self.manifest.shards[..self.committed].iter().map(|entry| entry.rows).sum::<usize>(),
        ))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A forked child inherits the writer but must not tidy up for its parent.
        if self.lock.is_ours() {
            self.remove_partial();
            for entry in &self.manifest.shards[self.committed..] {
                let _ = disk::remove(&self.path.join(SHARDS).join(&entry.file.name));
            }
            if self.began && std::fs::remove_dir(self.path.join(SHARDS)).is_ok() {
                // Nobody else's: a folder in which something appeared meanwhile stays.
                let _ = disk::remove(&self.path.join(LOCK));
                let _ = std::fs::remove_dir(&self.path);
            }
        }
    }
}
