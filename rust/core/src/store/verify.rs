//! Checking every byte of a store, and removing what no manifest lists.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;

use rayon::prelude::*;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::positioned::Positioned;

use super::attached::Attached;
use super::checksum::{BLOCK, hash_of_file};
use super::entry::{Entry, Listed};
use super::layout::{HEADER_BYTES, Tensor, parse_header};
use super::lock::{check_regular, lock};
use super::manifest::Manifest;
use super::shard::Shard;
use super::spec::Spec;
use super::{PARTIAL, SHARDS};

/// One damaged stretch of a shard or of a file derived from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// File name inside `shards/`.
    pub file: String,
    /// The tensors that lie in the stretch, as far as the header can still tell; "header" for the header itself.
    pub tensors: Vec<String>,
    /// First byte of the stretch.
    pub start: u64,
    /// One past its last byte.
    pub end: u64,
    /// What was expected and found.
    pub detail: String,
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Damaged stretches, in row order; empty for a healthy store.
    pub damages: Vec<Damage>,
    /// Files the manifest does not list, relative to the store: remains of killed or running writers.
    pub leftovers: Vec<String>,
    /// Shards checked.
    pub shards: usize,
    /// Bytes checked.
    pub bytes: u64,
}

/// Checks the manifest, every shard's size, header and tables, and (unless `quick`) the checksum of every block.
///
/// Blocks are read in parallel, past the memory map, so that an unreadable disk block becomes a [`Damage`] too.
/// Advances `control` by the bytes checked.
///
/// # Errors
/// Only what keeps the manifest from being read, and [`Error::Interrupted`]; damage of shards is returned.
pub fn verify(path: &Path, quick: bool, control: &Control) -> Result<Report> {
    let (mut manifest, mut checksum) = Manifest::read(path)?;
    let damages = loop {
        let found: Result<Vec<Vec<Damage>>> = manifest
            .shards
            .par_iter()
            .map(|entry| check_shard(path, &manifest.spec, entry, quick, control))
            .collect();
        let damages = found?.concat();
        let newer = Manifest::read(path)?;
        // A store overwritten meanwhile has lost its old shards by right.
        if damages.is_empty() || newer.1 == checksum {
            break damages;
        }
        (manifest, checksum) = newer;
    };
    Ok(Report {
        damages,
        leftovers: leftovers(path, &manifest)?,
        shards: manifest.shards.len(),
        bytes: if quick { 0 } else { manifest.bytes() },
    })
}

/// The size of all files the manifest lists: how far [`verify`] counts.
pub fn committed_bytes(path: &Path) -> Result<u64> {
    Ok(Manifest::read(path)?.0.bytes())
}

fn check_shard(
    folder: &Path,
    spec: &Spec,
    entry: &Entry,
    quick: bool,
    control: &Control,
) -> Result<Vec<Damage>> {
    let mut damages = check_file(folder, &entry.file, quick, control)?;
    if damages.is_empty() {
        // Right checksums over wrong tables are no accident of a disk, but of a program.
        let tables = Shard::open(folder, spec, entry)
            .and_then(|shard| if quick { Ok(()) } else { shard.check_tables(spec.kind()) });
        damages.extend(tables.err().map(|error| whole(&entry.file, detail_of(error))));
    }
    for derived in &entry.derived {
        let mut found = check_file(folder, &derived.file, quick, control)?;
        if found.is_empty() {
            let opened = Attached::open(folder, derived, [entry.rows, entry.descriptors]);
            found.extend(opened.err().map(|fault| whole(&derived.file, fault.detail)));
        }
        damages.extend(found);
    }
    Ok(damages)
}

fn detail_of(error: Error) -> String {
    if let Error::Corrupt { detail, .. } = error { detail } else { error.to_string() }
}

fn whole(file: &Listed, detail: String) -> Damage {
    Damage { file: file.name.clone(), tensors: Vec::new(), start: 0, end: file.bytes, detail }
}

/// Checks existence and size, and unless `quick` every block.
pub(super) fn check_file(
    folder: &Path,
    listed: &Listed,
    quick: bool,
    control: &Control,
) -> Result<Vec<Damage>> {
    let path = folder.join(SHARDS).join(&listed.name);
    if let Err(error) = check_regular(&path) {
        return Ok(vec![whole(listed, detail_of(error))]);
    }
    let file = match File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) {
        Ok((size, file)) if size == listed.bytes => file,
        Ok((size, _)) => {
            return Ok(vec![whole(listed, format!("expected {} bytes, found {size}", listed.bytes))]);
        }
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return Ok(vec![whole(listed, format!("expected {} bytes, found no file", listed.bytes))]);
        }
        Err(cause) => return Ok(vec![whole(listed, format!("cannot be opened: {cause}"))]),
    };
    if quick {
        return Ok(Vec::new());
    }
    Ok(name_tensors(check_blocks(&file, listed, control)?, &file, &path))
}

fn check_blocks(file: &File, listed: &Listed, control: &Control) -> Result<Vec<Damage>> {
    let check = |buffer: &mut Vec<u8>, (index, expected): (usize, &u64)| -> Result<Option<Damage>> {
        let start = (index * BLOCK) as u64;
        let length = (listed.bytes - start).min(BLOCK as u64);
        let detail = match hash_of_file(file, start..start + length, buffer) {
            Ok(found) if found == *expected => None,
            Ok(found) => Some(format!("expected checksum {expected:016x}, found {found:016x}")),
            Err(cause) => Some(format!("cannot be read: {cause}")),
        };
        control.advance(length)?;
        Ok(detail.map(|detail| Damage { start, end: start + length, ..whole(listed, detail) }))
    };
    let found: Result<Vec<Option<Damage>>> =
        listed.blocks.par_iter().enumerate().map_init(Vec::new, check).collect();
    Ok(found?.into_iter().flatten().collect())
}

fn name_tensors(mut damages: Vec<Damage>, file: &File, path: &Path) -> Vec<Damage> {
    if damages.is_empty() {
        return damages;
    }
    let tensors = header_of(file, path).unwrap_or_default();
    let data = tensors.first().map_or(u64::MAX, |tensor| tensor.range.start as u64);
    for damage in &mut damages {
        if damage.start < data {
            damage.tensors.push("header".to_owned());
        }
        let overlapping = tensors.iter().filter(|tensor| {
            (tensor.range.start as u64) < damage.end && damage.start < tensor.range.end as u64
        });
        damage.tensors.extend(overlapping.map(|tensor| tensor.name.clone()));
    }
    damages
}

/// What the header says, as far as it can be read: looked at through a map, a block that the disk has lost would end the
/// process.
fn header_of(file: &File, path: &Path) -> Option<Vec<Tensor>> {
    let length = file.metadata().ok()?.len().min(HEADER_BYTES as u64);
    file.read_exact_at(&mut vec![0; length as usize], 0).ok()?;
    parse_header(super::mmap::Map::open(path).ok()?.bytes()).ok()
}

/// The files of the store that its manifest does not list, relative to the store, sorted.
fn leftovers(path: &Path, manifest: &Manifest) -> Result<Vec<String>> {
    let listed: HashSet<&str> = manifest.files().map(|file| file.name.as_str()).collect();
    let mut found = Vec::new();
    for (folder, prefix) in [(path.to_owned(), ""), (path.join(SHARDS), "shards/")] {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(Error::io(&folder, "list")(cause)),
        };
        for entry in entries {
            let entry = entry.map_err(Error::io(&folder, "list"))?;
            // Beside the shards only files with our suffix are ours: a user's notes in the folder stay, and so do folders.
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|_| !entry.file_type().is_ok_and(|found| found.is_dir()))
            else {
                continue;
            };
            let ours = name.ends_with(PARTIAL) || (!prefix.is_empty() && name.ends_with(".safetensors"));
            if ours && !listed.contains(name) {
                found.push(format!("{prefix}{name}"));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Removes leftovers and returns their names, relative to the store.
///
/// # Errors
/// [`Error::Locked`] while a writer has the store open: its uncommitted shards are not leftovers.
pub fn gc(path: &Path) -> Result<Vec<String>> {
    // Before the lock, which would leave its file in a folder that is no store.
    Manifest::read(path)?;
    let _lock = lock(path)?;
    let (manifest, _) = Manifest::read(path)?;
    let names = leftovers(path, &manifest)?;
    for name in &names {
        let file = path.join(name);
        super::disk::remove(&file).map_err(Error::io(&file, "remove"))?;
    }
    Ok(names)
}
