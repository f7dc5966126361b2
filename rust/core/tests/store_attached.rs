//! Tensors computed from a shard and stored beside it.

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use ilias_fast_core::store::{Batch, ShardView, Spec, Store, TensorSink, TensorSpec, Writer, gc, verify};
use ilias_fast_core::{Control, Error, Result};

const DIM: usize = 5;
const PADDED: usize = 8;

fn make(path: &Path, rows: usize) -> Writer {
    let mut writer = Writer::create(path, Spec::global(DIM).unwrap(), "{}", None, false).unwrap();
    writer.set_shard_bytes(700).unwrap();
    let ids: Vec<String> = (0..rows).map(|row| format!("id{row}")).collect();
    let vectors: Vec<f16> = (0..rows * DIM).map(|index| f16::from_f32((index % 99) as f32)).collect();
    writer.append(&ids, &Batch::Global(&vectors), &Control::new()).unwrap();
    writer.commit().unwrap();
    writer
}

/// Attaches codes (each number plus `shift`) and sums, a few rows at a time.
fn attach(writer: &mut Writer, shard: usize, shift: i8) -> Result<()> {
    let rows = writer.shard(shard)?.rows();
    let tensors = [
        TensorSpec::new::<i8>("codes", &[rows, PADDED]),
        TensorSpec::new::<i32>("sums", &[rows]),
        TensorSpec::new::<f32>("scales", &[rows]),
    ];
    writer.attach(shard, "planes", &format!("{{\"shift\": {shift}}}"), &tensors, |view, sink| {
        for rows in view.vectors().unwrap().chunks(3 * DIM) {
            for row in rows.chunks(DIM) {
                let mut codes = [0; PADDED];
                row.iter().zip(&mut codes).for_each(|(value, code)| *code = value.to_f32() as i8 + shift);
                sink.write("codes", &codes)?;
                sink.write("sums", &[codes.iter().map(|code| i32::from(*code)).sum::<i32>()])?;
            }
            sink.write("scales", &vec![1.5_f32; rows.len() / DIM])?;
        }
        Ok(())
    })
}

fn check(store: &Store, shard: usize, shift: i8) {
    let vectors = store.shard(shard).unwrap().vectors().unwrap();
    let found = store.attached(shard, "planes").unwrap().unwrap();
    assert_eq!(found.parameters(), format!("{{\"shift\": {shift}}}"));
    let (shape, codes) = found.tensor::<i8>("codes").unwrap();
    assert_eq!(shape, [vectors.len() / DIM, PADDED]);
    assert_eq!(codes.as_ptr() as usize % 64, 0);
    for (row, codes) in vectors.chunks(DIM).zip(codes.chunks(PADDED)) {
        assert!(row.iter().zip(codes).all(|(value, code)| value.to_f32() as i8 + shift == *code));
        assert_eq!(codes[DIM..], [0; PADDED - DIM]);
    }
    let sums = found.tensor::<i32>("sums").unwrap().1;
    assert!(
        codes
            .chunks(PADDED)
            .zip(sums)
            .all(|(row, sum)| row.iter().map(|c| i32::from(*c)).sum::<i32>() == *sum)
    );
    assert!(found.tensor::<f32>("sums").is_err());
    assert!(found.tensor::<f32>("nothing").is_err());
}

fn derived_files(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path.join("shards")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().contains("planes")).collect();
    files.sort();
    files
}

#[test]
fn attached_shard_by_shard_replaced_and_detached() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut writer = make(&path, 100);
    let before = Store::open(&path).unwrap();
    let shards = writer.shards();
    assert!(shards > 3);
    for shard in 0..shards {
        attach(&mut writer, shard, 1).unwrap();
        check(&Store::open(&path).unwrap(), shard, 1);
    }
    assert!(before.attached(0, "planes").unwrap().is_none());
    let store = Store::open(&path).unwrap();
    let bytes = derived_files(&path).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(store.derived(), [("planes", shards, bytes)]);
    assert!(store.attached(0, "others").unwrap().is_none());
    let report = verify(&path, false, &Control::new()).unwrap();
    assert_eq!(report.bytes, store.bytes() + bytes);
    assert!(report.damages.is_empty() && report.leftovers.is_empty(), "{report:?}");

    // Appending keeps them; a reader keeps what it opened when they are replaced.
    writer.append(&["new"], &Batch::Global(&[f16::ONE; DIM]), &Control::new()).unwrap();
    assert!(matches!(attach(&mut writer, 0, 2), Err(Error::Parameter { .. })));
    assert!(matches!(writer.detach("planes"), Err(Error::Parameter { .. })));
    writer.commit().unwrap();
    attach(&mut writer, 0, 2).unwrap();
    check(&store, 0, 1);
    check(&Store::open(&path).unwrap(), 0, 2);
    assert_eq!(derived_files(&path).len(), shards);
    // The same once more changes nothing.
    attach(&mut writer, 0, 2).unwrap();
    check(&Store::open(&path).unwrap(), 0, 2);
    assert_eq!(writer.detach("planes").unwrap(), shards);
    assert_eq!(writer.detach("planes").unwrap(), 0);
    assert!(derived_files(&path).is_empty());
    assert!(Store::open(&path).unwrap().derived().is_empty());
    check(&store, 1, 1);
}

#[test]
fn a_producer_that_fails_leaves_the_store_as_it_was() {
    type Produce<'a> = &'a dyn Fn(&mut TensorSink) -> Result<()>;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut writer = make(&path, 10);
    let rows = writer.shard(0).unwrap().rows();
    let spec = [TensorSpec::new::<i32>("sums", &[rows])];
    let attempts: [Produce<'_>; 5] = [
        &|_| Ok(()),
        &|sink| sink.write("sums", &vec![0_i32; rows + 1]),
        &|sink| sink.write("sums", &vec![0_f32; rows]),
        &|sink| sink.write("other", &[1_i32]),
        &|_| Err(Error::Interrupted),
    ];
    for attempt in attempts {
        assert!(writer.attach(0, "planes", "{}", &spec, |_, sink| attempt(sink)).is_err());
    }
    let ok = |_: &ShardView<'_>, sink: &mut TensorSink| sink.write("sums", &vec![7_i32; rows]);
    for kind in ["", "a/b", "A", "a.b", "x".repeat(33).as_str()] {
        assert!(matches!(writer.attach(0, kind, "{}", &spec, ok), Err(Error::Parameter { .. })), "{kind}");
    }
    assert!(writer.attach(0, "planes", "[]", &spec, ok).is_err());
    assert!(writer.attach(9, "planes", "{}", &spec, ok).is_err());
    assert!(writer.attach(0, "planes", "{}", &[], ok).is_err());
    assert!(writer.attach(0, "planes", "{}", &[spec[0].clone(), spec[0].clone()], ok).is_err());
    for shape in [&[][..], &[rows + 1], &[rows, usize::MAX], &[rows, 1 << 50]] {
        let spec = [TensorSpec::new::<i32>("sums", shape)];
        assert!(matches!(writer.attach(0, "planes", "{}", &spec, ok), Err(Error::Shape { .. })), "{shape:?}");
    }
    let report = verify(&path, false, &Control::new()).unwrap();
    assert!(report.damages.is_empty() && report.leftovers.is_empty(), "{report:?}");
    assert!(Store::open(&path).unwrap().derived().is_empty());
    writer.attach(0, "planes", "{}", &spec, ok).unwrap();
}

#[test]
fn damage_is_named_and_does_not_keep_the_rows_from_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut writer = make(&path, 60);
    (0..writer.shards()).for_each(|shard| attach(&mut writer, shard, 1).unwrap());
    drop(writer);
    let file = derived_files(&path)[0].clone();
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    let good = fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
    let healthy = |quick| verify(&path, quick, &Control::new()).unwrap().damages;

    let last = good.len() - 1;
    for at in [0, 8, 20, header, last] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file, &bad).unwrap();
        let damages = healthy(false);
        assert_eq!(damages.len(), 1);
        assert_eq!((damages[0].file.as_str(), damages[0].end), (name.as_str(), good.len() as u64));
        let store = Store::open(&path).unwrap();
        assert_eq!(store.vectors().unwrap().concat().len(), 60 * DIM);
        if at < 20 {
            assert!(matches!(store.attached(0, "planes"), Err(Error::Corrupt { .. })));
            assert_eq!(healthy(true).len(), 1);
        }
    }
    fs::write(&file, &good[..last]).unwrap();
    assert!(healthy(true)[0].detail.contains("bytes"));
    fs::remove_file(&file).unwrap();
    assert_eq!(healthy(true).len(), 1);
    let store = Store::open(&path).unwrap();
    assert!(matches!(store.attached(0, "planes"), Err(Error::Corrupt { .. })));
    check(&store, 1, 1);

    // It can be made again.
    attach(&mut Writer::open_append(&path).unwrap(), 0, 1).unwrap();
    assert!(healthy(false).is_empty());
    assert_eq!(gc(&path).unwrap(), Vec::<String>::new());
}

#[test]
fn what_no_manifest_lists_is_collected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    attach(&mut make(&path, 10), 0, 1).unwrap();
    let file = derived_files(&path)[0].clone();
    let orphan = file.with_file_name("000009-x.planes-y.safetensors");
    let partial = file.with_file_name("000000-x.planes.safetensors.partial");
    fs::copy(&file, &orphan).unwrap();
    fs::copy(&file, &partial).unwrap();
    assert_eq!(verify(&path, true, &Control::new()).unwrap().leftovers.len(), 2);
    assert_eq!(gc(&path).unwrap().len(), 2);
    assert!(file.exists() && !orphan.exists() && !partial.exists());
}
