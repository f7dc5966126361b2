//! Stores that change: any sequence of appends, deletions, compactions and attachments against a plain list.

use std::path::Path;

use half::f16;
use ilias_fast_core::store::{
    Batch, Kind, LocalBatch, Optional, Spec, Store, TensorSpec, Writer, compact, verify,
};
use ilias_fast_core::{Control, Error, Result};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    /// Which of the rows there are.
    Delete(Vec<prop::sample::Index>),
    Compact(usize),
    Attach,
}

fn specs() -> [Spec; 4] {
    let optional = Optional { scale: true, angle: false, weight: true };
    [
        Spec::global(3).unwrap(),
        Spec::binary(12).unwrap(),
        Spec::local(12, optional).unwrap(),
        Spec::local_floats(3, optional).unwrap(),
    ]
}

/// Local descriptors of image `number`.
fn count(number: u32) -> usize {
    number as usize % 4
}

fn append(writer: &mut Writer, numbers: std::ops::Range<u32>) -> Result<()> {
    let spec = writer.spec().clone();
    let ids: Vec<String> = numbers.clone().map(|number| format!("id{number}")).collect();
    let local = spec.kind() == Kind::Local;
    let per_row = |number: u32| if local { count(number) } else { 1 };
    let halves: Vec<f16> = numbers
        .clone()
        .flat_map(|number| vec![f16::from_f32(number as f32); spec.dim() * per_row(number)])
        .collect();
    let codes: Vec<u8> = numbers
        .clone()
        .flat_map(|number| [number as u8, 0x70].repeat(spec.code_bytes() / 2 * per_row(number)))
        .collect();
    let mut offsets = vec![0_i64];
    numbers.clone().for_each(|number| offsets.push(offsets[offsets.len() - 1] + count(number) as i64));
    let m = offsets[offsets.len() - 1] as usize;
    let numbers_of = |value: f32| vec![value; m];
    let (xy, scale, weight) = (vec![0.25; 2 * m], numbers_of(2.0), numbers_of(3.0));
    let size: Vec<i32> = numbers.flat_map(|number| [number as i32 + 1, 7]).collect();
    let batch = match spec.kind() {
        Kind::Global => Batch::Global(&halves),
        Kind::Binary => Batch::Binary(&codes),
        Kind::Local => Batch::Local(LocalBatch {
            offsets: &offsets,
            codes: &codes,
            descriptors: &halves,
            xy: &xy,
            scale: Some(&scale),
            angle: None,
            weight: Some(&weight),
            size: &size,
        }),
    };
    writer.append(&ids, &batch, &Control::new())
}

/// Checks that the store has exactly these images, in this order, by every way of reading.
fn check(store: &Store, expected: &[u32]) {
    assert_eq!(store.len(), expected.len());
    let ids: Vec<String> = expected.iter().map(|number| format!("id{number}")).collect();
    assert_eq!(store.find(&ids).unwrap(), (0..ids.len()).map(Some).collect::<Vec<_>>());
    for (row, id) in ids.iter().enumerate() {
        assert_eq!(store.id(row).unwrap(), id);
    }
    let spec = store.spec();
    match spec.kind() {
        Kind::Global => {
            let all = store.vectors().unwrap().concat();
            let rows: Vec<f32> = all.chunks(3).map(|row| row[2].to_f32()).collect();
            assert_eq!(rows, expected.iter().map(|number| *number as f32).collect::<Vec<_>>());
            let order: Vec<usize> = (0..expected.len()).rev().collect();
            let mut out = vec![f16::ZERO; all.len()];
            store.gather_vectors(&order, &mut out, &Control::new()).unwrap();
            let reversed: Vec<f16> = all.chunks(3).rev().flatten().copied().collect();
            assert_eq!(out, reversed);
        }
        Kind::Binary => {
            let all = store.codes().unwrap().concat();
            let rows: Vec<u8> = all.chunks(2).map(|code| code[0]).collect();
            assert_eq!(rows, expected.iter().map(|number| *number as u8).collect::<Vec<_>>());
        }
        Kind::Local => {
            for (row, number) in expected.iter().enumerate() {
                let image = store.local(row).unwrap();
                assert_eq!(image.size, [number + 1, 7]);
                assert_eq!(image.codes, [*number as u8, 0x70].repeat(spec.code_bytes() / 2 * count(*number)));
                assert_eq!(image.descriptors.len(), spec.dim() * count(*number));
                assert!(image.descriptors.iter().all(|value| *value == f16::from_f32(*number as f32)));
                assert_eq!(image.xy, vec![0.25; 2 * count(*number)]);
                assert_eq!(image.weight.unwrap(), vec![3.0; count(*number)]);
                assert!(image.angle.is_none());
            }
        }
    }
    let starts: usize = store.runs().iter().map(|run| run.rows).sum();
    assert_eq!(starts, expected.len());
}

fn check_healthy(path: &Path) {
    let report = verify(path, false, &Control::new()).unwrap();
    assert!(report.damages.is_empty() && report.leftovers.is_empty(), "{report:?}");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_usize..40).prop_map(Step::Append),
        4 => prop::collection::vec(any::<prop::sample::Index>(), 0..12).prop_map(Step::Delete),
        2 => (300_usize..4000).prop_map(Step::Compact),
        1 => Just(Step::Attach),
    ];
    prop::collection::vec(step, 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_history(which in 0_usize..4, steps in steps()) {
        let folder = tempfile::tempdir_in(shared_memory()).unwrap();
        let path = folder.path().join("s");
        let mut writer = Writer::create(&path, specs()[which].clone(), "{}", None, false).unwrap();
        writer.set_shard_bytes(700).unwrap();
        writer.commit().unwrap();
        let (mut model, mut next) = (Vec::new(), 0_u32);
        let mut opened: Vec<(Store, Vec<u32>)> = Vec::new();
        for step in steps {
            match step {
                Step::Append(rows) => {
                    append(&mut writer, next..next + rows as u32).unwrap();
                    writer.commit().unwrap();
                    model.extend(next..next + rows as u32);
                    next += rows as u32;
                }
                Step::Delete(which) if !model.is_empty() => {
                    let mut numbers: Vec<u32> = which.iter().map(|index| model[index.index(model.len())]).collect();
                    let ids: Vec<String> = numbers.iter().map(|number| format!("id{number}")).collect();
                    numbers.sort_unstable();
                    numbers.dedup();
                    prop_assert_eq!(writer.delete(&ids).unwrap(), numbers.len());
                    model.retain(|number| !numbers.contains(number));
                    if let Some(id) = ids.first() {
                        let there = writer.contains(&[id]).unwrap();
                        prop_assert_eq!(there, [false]);
                        let refused = matches!(writer.delete(&[id]), Err(Error::UnknownId { .. }));
                        prop_assert!(refused);
                    }
                }
                Step::Compact(bytes) => {
                    drop(writer);
                    let done = compact(&path, bytes, &Control::new()).unwrap();
                    prop_assert_eq!(Store::open(&path).unwrap().deleted(), 0);
                    prop_assert!(done.written <= done.rewritten.max(1) * 40);
                    prop_assert_eq!(compact(&path, bytes, &Control::new()).unwrap().dropped, 0);
                    writer = Writer::open_append(&path).unwrap();
                    writer.set_shard_bytes(700).unwrap();
                }
                Step::Attach if writer.shards() > 0 => {
                    let rows = writer.shard(0).unwrap().rows();
                    let tensors = [TensorSpec::new::<i32>("rows", &[rows])];
                    let numbers: Vec<i32> = (0..rows as i32).collect();
                    writer.attach(0, "planes", "{}", &tensors, |_, sink| sink.write("rows", &numbers)).unwrap();
                }
                _ => {}
            }
            check_healthy(&path);
            let store = Store::open(&path).unwrap();
            check(&store, &model);
            opened.push((store, model.clone()));
        }
        for (store, model) in &opened {
            check(store, model);
        }
        // What was deleted may come again, and rows can be taken over in any order.
        let store = Store::open(&path).unwrap();
        let mut other = Writer::create(&folder.path().join("t"), specs()[which].clone(), "{}", None, false).unwrap();
        let order: Vec<usize> = (0..store.len()).rev().chain(0..0).collect();
        other.append_rows(&store, &order, &Control::new()).unwrap();
        other.commit().unwrap();
        model.reverse();
        check(&Store::open(&folder.path().join("t")).unwrap(), &model);
        if let Some(last) = order.first() {
            let refused = matches!(other.append_rows(&store, &[*last], &Control::new()), Err(Error::DuplicateId { .. }));
            prop_assert!(refused);
        }
    }
}

/// Where files need no disk, as every commit waits for it.
fn shared_memory() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new(".") }
}

#[test]
fn compaction_does_not_spread_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut writer = Writer::create(&path, specs()[0].clone(), "{}", None, false).unwrap();
    append(&mut writer, 0..20).unwrap();
    writer.commit().unwrap();
    writer.delete(&["id3"]).unwrap();
    drop(writer);
    let name = Store::open(&path).unwrap().shard(0).unwrap().name().to_owned();
    let file = path.join("shards").join(&name);
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let Err(Error::Corrupt { path: named, detail }) = compact(&path, 1 << 20, &Control::new()) else {
        panic!("damage was not noticed");
    };
    assert!(named.ends_with(&name) && detail.contains("checksum"), "{detail}");
    bytes[last] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    check_healthy(&path);
    let stop = Control::new();
    stop.interrupt();
    assert!(matches!(compact(&path, 1 << 20, &stop), Err(Error::Interrupted)));
    check_healthy(&path);
    assert_eq!(compact(&path, 1 << 20, &Control::new()).unwrap().dropped, 1);
    assert!(!file.exists());
    check_healthy(&path);
}

#[test]
fn rows_of_another_store_that_were_half_appended_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let filled = |name: &str, from: u32| {
        let path = folder.path().join(name);
        let mut writer = Writer::create(&path, Spec::global(4).unwrap(), "{}", None, false).unwrap();
        let ids: Vec<String> = (from..from + 50).map(|number| format!("id{number}")).collect();
        writer.append(&ids, &Batch::Global(&[f16::ONE; 200]), &Control::new()).unwrap();
        writer.commit().unwrap();
        path
    };
    let (path, source) = (filled("to", 0), Store::open(&filled("from", 50)).unwrap());
    let rows: Vec<usize> = (0..50).collect();
    let mut writer = Writer::open_append(&path).unwrap();
    let stop = Control::new();
    stop.interrupt();
    assert!(matches!(writer.append_rows(&source, &rows, &stop), Err(Error::Interrupted)));
    // Nobody knows how far it came: the writer takes nothing more, and commits nothing of it.
    let refused = |outcome: Result<()>| {
        let message = outcome.unwrap_err().to_string();
        assert!(message.contains("whose last write failed"), "{message}");
    };
    refused(writer.append_rows(&source, &rows, &Control::new()));
    refused(writer.commit().map(drop));
    drop(writer);
    assert_eq!(Store::open(&path).unwrap().len(), 50);
    let mut writer = Writer::open_append(&path).unwrap();
    writer.append_rows(&source, &rows, &Control::new()).unwrap();
    assert_eq!(writer.commit().unwrap(), 100);
}
