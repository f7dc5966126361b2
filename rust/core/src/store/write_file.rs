//! Durable files: written under a temporary name, synced, renamed, and the folder synced.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

use super::PARTIAL;
use super::checksum::Blocks;
use super::entry::Listed;

/// From this many bytes on hashing takes longer than starting a thread for it.
const WORTH_A_THREAD: usize = 1 << 20;

/// Makes the entries of a folder (new names, renames) durable.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(folder, "sync"))
}

/// Replaces `path` by `bytes`: at every instant it holds either the old bytes or the new ones.
///
/// The first error is from before the rename and leaves the old bytes, `Ok(Err)` is from after it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<Result<()>> {
    let folder = path.parent().expect("a file inside a store");
    let partial = path.with_extension(format!("json{PARTIAL}"));
    let written = File::create(&partial)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&partial, path));
    if let Err(cause) = written {
        // Best effort: what stays is listed by `verify` and removed by `gc`.
        let _ = std::fs::remove_file(&partial);
        return Err(Error::io(path, "write")(cause));
    }
    Ok(sync_folder(folder))
}

/// A shard being written.
pub(super) struct ShardFile {
    file: File,
    partial: PathBuf,
    blocks: Blocks,
    bytes: u64,
}

impl ShardFile {
    /// Starts the file of the shard with number `sequence` in `folder` under its temporary name.
    pub fn create(folder: &Path, sequence: usize) -> Result<Self> {
        let partial = folder.join(format!("{sequence:06}.safetensors{PARTIAL}"));
        let file = File::create(&partial).map_err(Error::io(&partial, "create"))?;
        Ok(Self { file, partial, blocks: Blocks::default(), bytes: 0 })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        let (file, blocks) = (&mut self.file, &mut self.blocks);
        if bytes.len() < WORTH_A_THREAD {
            blocks.update(bytes);
            return file.write_all(bytes);
        }
        // A thread of its own and not rayon's: a commit may run outside of any pool, and rayon's global one
        // does not survive a fork.
        std::thread::scope(|scope| {
            let hashing = std::thread::Builder::new().spawn_scoped(scope, || blocks.update(bytes))?;
            let written = file.write_all(bytes);
            hashing.join().expect("hashing does not panic");
            written
        })
    }

    /// Syncs the file and gives it its name `<sequence>-<hash of its block hashes>.safetensors`.
    ///
    /// The folder is not synced.
    pub fn finish(self, sequence: usize) -> Result<Listed> {
        let blocks = self.blocks.finish();
        let hash = super::checksum::hash_of_blocks(&blocks);
        let name = format!("{sequence:06}-{hash:016x}.safetensors");
        let path = self.partial.with_file_name(&name);
        self.file
            .sync_all()
            .and_then(|()| std::fs::rename(&self.partial, &path))
            .map_err(Error::io(&self.partial, "write"))?;
        Ok(Listed { name, bytes: self.bytes, blocks })
    }

    /// The temporary path.
    pub fn partial(&self) -> &Path {
        &self.partial
    }
}
