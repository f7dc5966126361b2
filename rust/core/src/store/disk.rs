//! Every step by which the stores change the file system, so that tests can fail or kill at any of them.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::positioned::Positioned;

/// Called before each step: an error makes it fail. Only test builds do anything here.
#[cfg(not(test))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "test builds fail here")]
const fn step() -> io::Result<()> {
    Ok(())
}
#[cfg(test)]
use super::faults::step;

/// Opens a new file, or empties the one that is there.
pub(super) fn create(path: &Path) -> io::Result<File> {
    step()?;
    File::options().read(true).write(true).create(true).truncate(true).open(path)
}

pub(super) fn write_at(file: &File, bytes: &[u8], start: u64) -> io::Result<()> {
    step()?;
    file.write_all_at(bytes, start)
}

pub(super) fn sync(file: &File) -> io::Result<()> {
    step()?;
    file.sync_all()
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step()?;
    std::fs::rename(from, to)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    step()?;
    std::fs::remove_file(path)
}

/// Makes the entries of a folder (new names, renames) durable. Windows has no such call: NTFS logs them itself.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    step()?;
    if cfg!(windows) { Ok(()) } else { File::open(path)?.sync_all() }
}
