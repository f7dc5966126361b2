//! Durable files: written under a temporary name, synced, renamed, and the folder synced.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::positioned::Positioned;

use super::advice::write_back;
use super::checksum::{BLOCK, Blocks, hash, hash_of_blocks};
use super::entry::Listed;
use super::{PARTIAL, disk};

/// From this many bytes on checking or hashing takes longer than starting a thread for it.
pub(super) const WORTH_A_THREAD: usize = 1 << 20;
/// Bytes written at once, and between two requests to the system to start bringing them to the disk.
const PIECE: usize = 16 << 20;

/// Makes the entries of a folder (new names, renames) durable.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    disk::sync_folder(folder).map_err(Error::io(folder, "sync"))
}

/// Creates a folder and those above it that are missing, all of them for good: what a folder holds is lost with its
/// name.
pub(super) fn create_folders(path: &Path) -> Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    std::fs::create_dir_all(path).map_err(Error::io(path, "create"))?;
    missing.into_iter().filter_map(Path::parent).try_for_each(|parent| {
        sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
    })
}

/// Replaces `path` by `bytes`: at every instant it holds either the old bytes or the new ones.
///
/// The first error is from before the rename and leaves the old bytes, `Ok(Err)` is from after it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<Result<()>> {
    let folder = path.parent().expect("a file inside a store");
    let partial = path.with_extension(format!("json{PARTIAL}"));
    let written = disk::create(&partial)
        .and_then(|file| {
            disk::write_at(&file, bytes, 0)?;
            disk::sync(&file)
        })
        .and_then(|()| disk::rename(&partial, path));
    if let Err(cause) = written {
        // Best effort: what stays is listed by `verify` and removed by `gc`.
        let _ = disk::remove(&partial);
        return Err(Error::io(path, "write")(cause));
    }
    Ok(sync_folder(folder))
}

/// A file that a thread brings to the disk while the next one is made.
///
/// A thread of its own and not rayon's: a commit may run outside of any pool, and rayon's global one does not
/// survive a fork.
#[derive(Debug)]
pub(super) struct Syncing {
    path: PathBuf,
    /// The thread, or the outcome where the system had none to give.
    thread: Result<JoinHandle<io::Result<()>>, io::Result<()>>,
}

impl Syncing {
    /// Waits until the file is on the disk.
    pub fn wait(self) -> Result<()> {
        let synced =
            self.thread.map_or_else(|done| done, |thread| thread.join().expect("syncing does not panic"));
        synced.map_err(Error::io(self.path, "sync"))
    }
}

/// A shard being written: room for the header, the main tensor as it comes, the rest at the end.
#[derive(Debug)]
pub(super) struct ShardFile {
    file: File,
    partial: PathBuf,
    /// Bytes left free for the header.
    reserved: usize,
    /// Of the room for the header (as zeros) and the main tensor.
    blocks: Blocks,
    end: usize,
    /// Up to where the system was asked to bring the file to the disk, so that the sync finds little to do.
    begun: usize,
    /// Appends while the caller gathers the next rows.
    behind: Option<JoinHandle<Appended>>,
}

/// What a thread had to append, the hashes with it, and whether it is in the file.
type Appended = (Vec<u8>, Blocks, io::Result<()>);

impl ShardFile {
    /// Starts the file of the shard with number `sequence` in `folder` under its temporary name.
    pub fn create(folder: &Path, sequence: usize, reserved: usize) -> Result<Self> {
        let partial = folder.join(format!("{sequence:06}.safetensors{PARTIAL}"));
        let file = disk::create(&partial).map_err(Error::io(&partial, "create"))?;
        let mut blocks = Blocks::default();
        blocks.update(&vec![0; reserved]);
        Ok(Self { file, partial, reserved, blocks, end: reserved, begun: 0, behind: None })
    }

    /// Appends elements of the main tensor on a thread of its own. What was appended that way before has to be
    /// [settled](Self::settle).
    pub fn append_behind(&mut self, bytes: Vec<u8>) -> Result<()> {
        debug_assert!(self.behind.is_none());
        let file = self.file.try_clone().map_err(Error::io(&self.partial, "write"))?;
        let (mut blocks, start) = (self.blocks.clone(), self.end as u64);
        let work = move || {
            blocks.update(&bytes);
            let written = disk::write_at(&file, &bytes, start);
            (bytes, blocks, written)
        };
        self.behind =
            Some(std::thread::Builder::new().spawn(work).map_err(Error::io(&self.partial, "write"))?);
        Ok(())
    }

    /// Waits for [`Self::append_behind`] and gives its memory back; if it failed, with what is not in the file.
    pub fn settle(&mut self) -> (Vec<u8>, Result<()>) {
        let Some(thread) = self.behind.take() else { return (Vec::new(), Ok(())) };
        let (mut bytes, blocks, written) = thread.join().expect("writing does not panic");
        if let Err(cause) = written {
            return (bytes, Err(Error::io(&self.partial, "write")(cause)));
        }
        self.blocks = blocks;
        self.end += bytes.len();
        begin(&self.file, &mut self.begun, self.end);
        bytes.clear();
        (bytes, Ok(()))
    }

    /// Appends elements of the main tensor. If that fails nothing is appended.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        debug_assert!(self.behind.is_none());
        let mut blocks = self.blocks.clone();
        let (file, start) = (&self.file, self.end);
        let written = if bytes.len() < WORTH_A_THREAD {
            blocks.update(bytes);
            disk::write_at(file, bytes, start as u64)
        } else {
            let begun = &mut self.begun;
            std::thread::scope(|scope| {
                let hashing = std::thread::Builder::new().spawn_scoped(scope, || blocks.update(bytes))?;
                let written = bytes.chunks(PIECE).enumerate().try_for_each(|(index, piece)| {
                    let at = start + index * PIECE;
                    disk::write_at(file, piece, at as u64)?;
                    begin(file, begun, at + piece.len());
                    Ok(())
                });
                hashing.join().expect("hashing does not panic");
                written
            })
        };
        written.map_err(Error::io(&self.partial, "write"))?;
        self.blocks = blocks;
        self.end += bytes.len();
        Ok(())
    }

    /// Completes the file with its header and other tensors, and gives it its name
    /// `<sequence>-<hash of its block hashes>.safetensors`.
    ///
    /// `rest` are bytes and where they begin, ascending. It may fail and be repeated. The file is synced in the
    /// background and the folder not at all.
    pub fn finish(
        &mut self,
        sequence: usize,
        header: &[u8],
        rest: &[(usize, &[u8])],
    ) -> Result<(Listed, Syncing)> {
        debug_assert_eq!(header.len(), self.reserved);
        let written = self.write_rest(header, rest);
        let (bytes, blocks) = written.map_err(Error::io(&self.partial, "write"))?;
        let name = format!("{sequence:06}-{:016x}.safetensors", hash_of_blocks(&blocks));
        let path = self.partial.with_file_name(&name);
        let file = self.file.try_clone().map_err(Error::io(&self.partial, "write"))?;
        disk::rename(&self.partial, &path).map_err(Error::io(&self.partial, "write"))?;
        // Nothing may fail from here on: under its temporary name the file is not found again.
        let start = std::thread::Builder::new().spawn(move || disk::sync(&file));
        let thread = start.map_err(|_| disk::sync(&self.file));
        Ok((Listed { name, bytes: bytes as u64, blocks }, Syncing { path, thread }))
    }

    fn write_rest(&self, header: &[u8], rest: &[(usize, &[u8])]) -> io::Result<(usize, Vec<u64>)> {
        let mut blocks = self.blocks.clone();
        let mut end = self.end;
        for &(start, bytes) in rest {
            // Between the tensors lies padding, which nobody writes: it reads as zeros.
            blocks.update(&vec![0; start - end]);
            blocks.update(bytes);
            disk::write_at(&self.file, bytes, start as u64)?;
            end = start + bytes.len();
        }
        disk::write_at(&self.file, header, 0)?;
        let mut blocks = blocks.finish();
        // The first block was hashed without the header.
        let mut first = vec![0; end.min(BLOCK)];
        self.file.read_exact_at(&mut first, 0)?;
        blocks[0] = hash(&first);
        Ok((end, blocks))
    }

    /// The temporary path.
    pub fn partial(&self) -> &Path {
        &self.partial
    }
}

/// Asks the system to bring to the disk what was written since the last time, up to `end`. Only the sync at the
/// end counts.
fn begin(file: &File, begun: &mut usize, end: usize) {
    if end >= *begun + PIECE {
        write_back(file, *begun as u64, (end - *begun) as u64);
        *begun = end;
    }
}
