//! Stores whose checksums are right and whose contents lie: never a panic, never a read out of bounds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use half::f16;
use ilias_fast_core::store::{Batch, Kind, LocalBatch, Optional, Spec, Store, Writer, compact, verify};
use ilias_fast_core::{Control, Error, Result};
use proptest::prelude::*;
use proptest::sample::Index;
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

const ROWS: usize = 5;

/// A folder in memory, where there is one: every commit waits for the disk.
fn memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn ids() -> Vec<String> {
    (0..ROWS).map(|row| format!("id{row}")).collect()
}

/// A store with one shard of five images: a copy of one made once, because every commit waits for the disk.
fn make(path: &Path, kind: Kind) {
    static MADE: [OnceLock<TempDir>; 3] = [const { OnceLock::new() }; 3];
    let made = MADE[kind as usize].get_or_init(|| {
        let folder = memory();
        write(folder.path(), kind);
        folder
    });
    fs::create_dir_all(path.join("shards")).unwrap();
    fs::copy(made.path().join("manifest.json"), path.join("manifest.json")).unwrap();
    let shard = shard_path(made.path());
    fs::copy(&shard, path.join("shards").join(shard.file_name().unwrap())).unwrap();
}

fn write(path: &Path, kind: Kind) {
    let spec = match kind {
        Kind::Global => Spec::global(4),
        Kind::Binary => Spec::binary(16),
        Kind::Local => Spec::local(16, Optional { scale: true, angle: true, weight: true }),
    };
    let mut writer = Writer::create(path, spec.unwrap(), "{}", None, false).unwrap();
    let numbers = [0.5_f32; 14];
    let batch = match kind {
        Kind::Global => Batch::Global(&[f16::ONE; 4 * ROWS]),
        Kind::Binary => Batch::Binary(&[7; 2 * ROWS]),
        Kind::Local => Batch::Local(LocalBatch {
            offsets: &[0, 2, 2, 5, 6, 7],
            codes: &[3; 14],
            descriptors: &[],
            xy: &numbers,
            scale: Some(&numbers[..7]),
            angle: Some(&numbers[..7]),
            weight: Some(&numbers[..7]),
            size: &[8; 2 * ROWS],
        }),
    };
    writer.append(&ids(), &batch, &Control::new()).unwrap();
    writer.commit().unwrap();
}

fn sign(manifest: &str) -> String {
    let covered = &manifest[..manifest.rfind("\"checksum\"").unwrap()];
    format!("{covered}\"checksum\":\"{:016x}\"}}\n", xxh3_64(covered.as_bytes()))
}

fn shard_path(path: &Path) -> PathBuf {
    fs::read_dir(path.join("shards")).unwrap().next().unwrap().unwrap().path()
}

fn read_manifest(path: &Path) -> String {
    fs::read_to_string(path.join("manifest.json")).unwrap()
}

/// Writes the shard, and a manifest that vouches for it.
fn vouch(path: &Path, shard: &[u8]) {
    let old = fs::read(shard_path(path)).unwrap();
    fs::write(shard_path(path), shard).unwrap();
    let manifest = read_manifest(path)
        .replace(&format!("\"bytes\":{},", old.len()), &format!("\"bytes\":{},", shard.len()))
        .replace(&format!("{:016x}", xxh3_64(&old)), &format!("{:016x}", xxh3_64(shard)));
    fs::write(path.join("manifest.json"), sign(&manifest)).unwrap();
}

/// Calls every reading function for every row, going on after errors; returns all errors.
fn read_all(path: &Path) -> Vec<Error> {
    let store = match Store::open(path) {
        Ok(store) => store,
        Err(error) => return vec![error],
    };
    let mut outcomes: Vec<Result<usize>> = Vec::new();
    for row in 0..=store.len().min(100) {
        outcomes.push(store.id(row).map(str::len));
        outcomes.push(store.local(row).map(|local| {
            let codes: usize = local.codes.iter().map(|byte| usize::from(*byte)).sum();
            codes + local.xy.len() + local.scale.map_or(0, <[f32]>::len)
        }));
    }
    outcomes.push(store.find(&ids()).map(|rows| rows.len()));
    outcomes
        .push(store.vectors().map(|shards| shards.concat().iter().filter(|value| value.is_nan()).count()));
    outcomes.push(store.codes().map(|shards| shards.concat().iter().copied().map(usize::from).sum()));
    let rows: Vec<usize> = (0..store.len().min(100)).collect();
    let mut copy = Writer::create(&path.join("copy"), store.spec().clone(), "{}", None, true).unwrap();
    for some in [&rows[..], &rows[..rows.len() / 2], &rows[rows.len() / 2..]] {
        outcomes.push(copy.append_rows(&store, some, &Control::new()).map(|()| 0));
    }
    drop(copy);
    outcomes.push(store.check_tables(&Control::new()).map(|()| 0));
    outcomes.push(verify(path, false, &Control::new()).map(|report| report.damages.len()));
    outcomes.push(Writer::open_append(path).and_then(|mut writer| writer.delete(&["id1"])));
    outcomes.push(compact(path, 1 << 20, &Control::new()).map(|done| done.dropped));
    outcomes.into_iter().filter_map(Result::err).collect()
}

fn all_typed(errors: &[Error]) {
    for error in errors {
        let message = error.to_string();
        assert!(message.len() < 3000, "{message}");
        assert!(!matches!(error, Error::Io { .. } | Error::Interrupted), "{message}");
    }
}

/// Replaces one of the numbers in a JSON text.
fn replace_number(text: &str, which: Index, number: u64) -> String {
    let starts: Vec<usize> = text
        .match_indices(|character: char| character.is_ascii_digit())
        .map(|(start, _)| start)
        .filter(|start| matches!(text.as_bytes()[start - 1], b':' | b'[' | b','))
        .collect();
    let start = starts[which.index(starts.len())];
    let length = text[start..].find(|character: char| !character.is_ascii_digit()).unwrap();
    format!("{}{number}{}", &text[..start], &text[start + length..])
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Global), Just(Kind::Binary), Just(Kind::Local)]
}

fn lies() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..40, Just(u64::MAX), Just(1 << 63), Just(1 << 32), any::<u64>()]
}

fn configuration() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(configuration())]

    #[test]
    fn bytes_of_a_vouched_shard(
        kind in kinds(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<Index>()),
    ) {
        let folder = memory();
        make(folder.path(), kind);
        let mut shard = fs::read(shard_path(folder.path())).unwrap();
        for (position, value) in changes {
            let position = position.index(shard.len());
            shard[position] = value;
        }
        if let Some(cut) = cut {
            shard.truncate(cut.index(shard.len()) + 1);
        }
        vouch(folder.path(), &shard);
        all_typed(&read_all(folder.path()));
    }

    #[test]
    fn numbers_of_a_vouched_shard(
        kind in kinds(),
        position in any::<Index>(),
        number in prop_oneof![any::<i64>(), -3_i64..12, Just(i64::MAX), Just(i64::MIN)],
    ) {
        let folder = memory();
        make(folder.path(), kind);
        let mut shard = fs::read(shard_path(folder.path())).unwrap();
        // The 8-byte tables come first, so most of these land on offsets and hashes.
        let header = 8 + u64::from_le_bytes(*shard.first_chunk().unwrap()) as usize;
        let position = header + position.index((shard.len() - header) / 8) * 8;
        shard[position..position + 8].copy_from_slice(&number.to_le_bytes());
        vouch(folder.path(), &shard);
        all_typed(&read_all(folder.path()));
    }

    #[test]
    fn numbers_of_a_vouched_header(kind in kinds(), which in any::<Index>(), number in lies()) {
        let folder = memory();
        make(folder.path(), kind);
        let shard = fs::read(shard_path(folder.path())).unwrap();
        let end = 8 + u64::from_le_bytes(*shard.first_chunk().unwrap()) as usize;
        let lied = replace_number(std::str::from_utf8(&shard[8..end]).unwrap(), which, number);
        let mut bytes = (lied.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(lied.as_bytes());
        bytes.extend_from_slice(&shard[end..]);
        vouch(folder.path(), &bytes);
        all_typed(&read_all(folder.path()));
    }

    #[test]
    fn numbers_of_a_signed_manifest(kind in kinds(), which in any::<Index>(), number in lies()) {
        let folder = memory();
        make(folder.path(), kind);
        let lied = replace_number(&read_manifest(folder.path()), which, number);
        fs::write(folder.path().join("manifest.json"), sign(&lied)).unwrap();
        all_typed(&read_all(folder.path()));
    }

    #[test]
    fn file_names_of_a_signed_manifest(name in "[./a-z\\\\]{0,12}(\\.safetensors)?") {
        let folder = memory();
        let path = folder.path().join("s");
        make(&path, Kind::Global);
        let old = shard_path(&path);
        fs::copy(&old, folder.path().join("x.safetensors")).unwrap();
        let old = old.file_name().unwrap().to_str().unwrap().to_owned();
        let lied = read_manifest(&path).replace(&old, &name.replace('\\', "\\\\"));
        fs::write(path.join("manifest.json"), sign(&lied)).unwrap();
        let refused = matches!(Store::open(&path), Err(Error::Corrupt { .. }));
        prop_assert!(refused);
    }
}

#[test]
fn names_cannot_leave_the_folder() {
    let folder = memory();
    let path = folder.path().join("s");
    make(&path, Kind::Global);
    let old = shard_path(&path);
    fs::copy(&old, folder.path().join("x.safetensors")).unwrap();
    let old = old.file_name().unwrap().to_str().unwrap().to_owned();
    let absolute = folder.path().join("x.safetensors").to_str().unwrap().to_owned();
    for name in ["../../x.safetensors", "./x.safetensors", absolute.as_str()] {
        let lied = sign(&read_manifest(&path).replace(&old, name));
        fs::write(path.join("manifest.json"), &lied).unwrap();
        let message = Store::open(&path).unwrap_err().to_string();
        assert!(message.contains("plain name"), "{message}");
        fs::write(path.join("manifest.json"), sign(&lied.replace(name, &old))).unwrap();
    }
    Store::open(&path).unwrap();
}

#[test]
fn right_checksums_over_wrong_tables_are_found_by_verify() {
    for kind in [Kind::Global, Kind::Binary, Kind::Local] {
        let folder = memory();
        make(folder.path(), kind);
        assert_eq!(sign(&read_manifest(folder.path())), read_manifest(folder.path()));
        let mut shard = fs::read(shard_path(folder.path())).unwrap();
        let at = shard.windows(3).rposition(|bytes| bytes == b"id4").unwrap();
        shard[at + 2] = b'x';
        vouch(folder.path(), &shard);
        Store::open(folder.path()).unwrap();
        let report = verify(folder.path(), false, &Control::new()).unwrap();
        assert!(report.damages[0].detail.contains("id_hash"), "{report:?}");
    }
}

#[test]
fn only_local_stores_count_descriptors() {
    for kind in [Kind::Global, Kind::Binary] {
        let folder = memory();
        make(folder.path(), kind);
        let honest = read_manifest(folder.path());
        let lied = honest.replacen(",\"bytes\":", &format!(",\"descriptors\":{},\"bytes\":", usize::MAX), 1);
        assert_ne!(lied, honest);
        fs::write(folder.path().join("manifest.json"), sign(&lied)).unwrap();
        let message = Store::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("expected no descriptors"), "{message}");
    }
}
