// What the fuzz target and the test that replays its corpus do with an input.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use half::f16;
use ilias_fast_core::Control;
use ilias_fast_core::store::{Batch, Kind, LocalBatch, Optional, Spec, Store, TensorSpec, Writer, verify};
use xxhash_rust::xxh3::xxh3_64;

const ROWS: usize = 5;

/// The stores whose files an input replaces, one a kind, each with a derived file and a deleted row.
pub fn bases() -> &'static [PathBuf] {
    static BASES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    BASES.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = folder.join(format!("ilias-fast-fuzz-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let optional = Optional { scale: true, angle: true, weight: true };
        let specs =
            [Spec::global(4), Spec::binary(16), Spec::local(16, optional), Spec::local_floats(4, optional)];
        let bases = specs.into_iter().enumerate().map(|(index, spec)| {
            let path = folder.join(index.to_string());
            write(&path, spec.unwrap());
            path
        });
        bases.collect()
    })
}

fn write(path: &Path, spec: Spec) {
    let mut writer = Writer::create(path, spec.clone(), "{\"model\":\"m\"}", None, false).unwrap();
    let numbers = [0.5_f32; 14];
    let batch = match spec.kind() {
        Kind::Global => Batch::Global(&[f16::ONE; 4 * ROWS]),
        Kind::Binary => Batch::Binary(&[7; 2 * ROWS]),
        Kind::Local => Batch::Local(LocalBatch {
            offsets: &[0, 2, 2, 5, 6, 7],
            codes: &[3; 14][..7 * spec.code_bytes()],
            descriptors: &[f16::ONE; 28][..7 * spec.dim()],
            xy: &numbers,
            scale: Some(&numbers[..7]),
            angle: Some(&numbers[..7]),
            weight: Some(&numbers[..7]),
            size: &[8; 2 * ROWS],
        }),
    };
    let ids: Vec<String> = (0..ROWS).map(|row| format!("id{row}")).collect();
    writer.append(&ids, &batch, &Control::new()).unwrap();
    writer.commit().unwrap();
    let tensors = [TensorSpec::new::<i8>("codes", &[ROWS, 8]), TensorSpec::new::<f32>("norms", &[ROWS])];
    writer
        .attach(0, "planes", "{}", &tensors, |_, sink| {
            sink.write("codes", &[1_i8; 8 * ROWS])?;
            sink.write("norms", &[1_f32; ROWS])
        })
        .unwrap();
    writer.delete(&["id1"]).unwrap();
}

/// The files of a base, in the order in which the second byte of an input counts them: manifest, shard, derived.
pub fn files(base: &Path) -> [PathBuf; 3] {
    let mut shards: Vec<PathBuf> =
        fs::read_dir(base.join("shards")).unwrap().map(|entry| entry.unwrap().path()).collect();
    shards.sort_by_key(|path| path.to_string_lossy().contains("planes"));
    [base.join("manifest.json"), shards[0].clone(), shards[1].clone()]
}

/// The manifest, with a checksum that is right.
fn signed(manifest: &[u8]) -> Vec<u8> {
    let end = manifest.windows(11).rposition(|window| window == b"\"checksum\":").unwrap_or(manifest.len());
    let mut bytes = manifest[..end].to_vec();
    bytes.extend(format!("\"checksum\":\"{:016x}\"}}\n", xxh3_64(&manifest[..end])).into_bytes());
    bytes
}

/// Opens, reads and verifies a store of which one file is replaced by `input[2..]`.
///
/// `input[0]` chooses the store, `input[1]` the file. The manifest is signed, and vouches for the file, so that
/// the input gets past the checksums.
pub fn drive(input: &[u8]) {
    let [which, file, content @ ..] = input else { return };
    let base = &bases()[*which as usize % bases().len()];
    let files = files(base);
    let kept: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let number = *file as usize % 4;
    match number {
        0 => fs::write(&files[0], signed(content)).unwrap(),
        3 => fs::write(&files[0], content).unwrap(),
        _ => {
            fs::write(&files[number], content).unwrap();
            let (old, new) = (&kept[number], content);
            let mut manifest = String::from_utf8(kept[0].clone()).unwrap();
            let blocks: Vec<String> =
                new.chunks(4 << 20).map(|block| format!("\"{:016x}\"", xxh3_64(block))).collect();
            manifest = manifest.replace(
                &format!("\"bytes\":{},\"blocks\":[\"{:016x}\"]", old.len(), xxh3_64(old)),
                &format!("\"bytes\":{},\"blocks\":[{}]", new.len(), blocks.join(",")),
            );
            fs::write(&files[0], signed(manifest.as_bytes())).unwrap();
        }
    }
    read_everything(base);
    for (file, bytes) in files.iter().zip(kept) {
        fs::write(file, bytes).unwrap();
    }
}

fn read_everything(path: &Path) {
    let control = Control::new();
    let _ = verify(path, true, &control);
    let _ = verify(path, false, &control);
    let Ok(store) = Store::open(path) else { return };
    let rows = store.len();
    let ids: Vec<&str> = (0..rows.min(64)).filter_map(|row| store.id(row).ok()).collect();
    let _ = store.find(&ids).map(|found| found.into_iter().flatten().for_each(|row| assert!(row < rows)));
    let _ = store.vectors().map(|all| all.concat().iter().map(|value| value.to_f32()).sum::<f32>());
    let _ = store.codes().map(|all| all.concat().iter().map(|byte| usize::from(*byte)).sum::<usize>());
    for row in 0..rows.min(64) {
        let _ = store.local(row).map(|image| {
            let sum: f32 = image.xy.iter().sum();
            let halves: f32 = image.descriptors.iter().map(|value| value.to_f32()).sum();
            std::hint::black_box((sum, halves, image.codes.to_vec(), image.scale.map(<[f32]>::to_vec)))
        });
    }
    for shard in 0..store.shards() {
        if let Ok(Some(attached)) = store.attached(shard, "planes") {
            let _ = attached.tensor::<i8>("codes").map(|(_, codes)| std::hint::black_box(codes.to_vec()));
            let _ = attached.tensor::<f32>("norms").map(|(_, norms)| std::hint::black_box(norms.to_vec()));
        }
    }
    let _ = store.check_tables(&control);
    // A writer must be able to live with whatever opens.
    if let Ok(writer) = Writer::open_append(path) {
        let _ = writer.contains(&["id0", "id1", "nobody"]);
    }
}
