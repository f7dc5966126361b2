//! A store's life through the Rust interface alone.

use half::f16;
use ilias_fast_core::store::{Batch, Kind, LocalBatch, Optional, Spec, Store, Writer, gc, verify};
use ilias_fast_core::{Control, Error};

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|row| format!("tar{}/{row}", row % 3)).collect()
}

fn vectors(range: std::ops::Range<usize>, dim: usize) -> Vec<f16> {
    range
        .flat_map(|row| (0..dim).map(move |column| f16::from_f32((row * dim + column) as f32 / 8.0)))
        .collect()
}

#[test]
fn global_stores_grow_by_commits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let control = Control::new();
    let dim = 5;
    let mut writer = Writer::create(&path, Spec::global(dim).unwrap(), "{\"a\": 1}", None, false).unwrap();
    writer.set_shard_bytes(700).unwrap();
    writer.append(&names(0..40), &Batch::Global(&vectors(0..40, dim)), &control).unwrap();
    assert!(matches!(Store::open(&path), Err(Error::NotAStore { .. })));
    assert_eq!(writer.commit().unwrap(), 40);
    let early = Store::open(&path).unwrap();
    writer.append(&names(40..100), &Batch::Global(&vectors(40..100, dim)), &control).unwrap();
    assert_eq!(writer.contains(&["tar0/99", "tar0/100"]).unwrap(), [true, false]);
    assert!(matches!(Writer::open_append(&path), Err(Error::Locked { .. })));
    assert!(matches!(gc(&path), Err(Error::Locked { .. })));
    writer.commit().unwrap();
    // Dropping a writer drops what it did not commit, and its files.
    writer.append(&names(100..200), &Batch::Global(&vectors(100..200, dim)), &control).unwrap();
    assert!(!verify(&path, false, &control).unwrap().leftovers.is_empty());
    drop(writer);

    let store = Store::open(&path).unwrap();
    assert_eq!((early.len(), store.len(), store.kind(), store.dim()), (40, 100, Kind::Global, dim));
    assert!(store.starts().len() > 4);
    assert_eq!(store.vectors().unwrap().concat(), vectors(0..100, dim));
    assert_eq!(store.vectors().unwrap().len() + 1, store.starts().len());
    assert_eq!(store.provenance(), "{\"a\": 1}");
    assert_eq!(store.find(&["tar1/97", "nobody", "tar0/0"]).unwrap(), [Some(97), None, Some(0)]);
    assert_eq!(store.id(50).unwrap(), "tar2/50");
    let mut out = vec![f16::ZERO; 3 * dim];
    store.gather_vectors(&[99, 0, 99], &mut out, &control).unwrap();
    assert_eq!(out[..dim], vectors(99..100, dim));
    assert_eq!(out[dim..2 * dim], vectors(0..1, dim));
    assert!(matches!(store.id(100), Err(Error::Parameter { .. })));
    assert!(matches!(store.gather_vectors(&[0], &mut out, &control), Err(Error::Shape { .. })));
    assert!(matches!(store.codes(), Err(Error::Incompatible { .. })));
    assert!(matches!(store.local(0), Err(Error::Incompatible { .. })));
    let report = verify(&path, false, &control).unwrap();
    assert!(report.damages.is_empty() && report.leftovers.is_empty(), "{report:?}");
}

#[test]
fn local_stores_give_each_image_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let spec = Spec::local(24, Optional { angle: true, ..Optional::default() }).unwrap();
    let mut writer = Writer::create(&path, spec, "{}", Some("{\"path\":\"p\"}"), false).unwrap();
    writer.set_shard_bytes(64).unwrap();
    let codes: Vec<u8> = (0..15).collect();
    let xy: Vec<f32> = (0..10_u8).map(|value| f32::from(value) / 10.0).collect();
    let batch = LocalBatch {
        offsets: &[0, 2, 2, 5],
        codes: &codes,
        descriptors: &[],
        xy: &xy,
        scale: None,
        angle: Some(&xy[..5]),
        weight: None,
        size: &[1, 2, 3, 4, 5, 6],
    };
    writer.append(&["a", "b", "c"], &Batch::Local(batch), &Control::new()).unwrap();
    let refused = writer.append(&["a"], &Batch::Binary(&[0; 3]), &Control::new());
    assert!(matches!(refused, Err(Error::Incompatible { .. })));
    writer.commit().unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(
        (store.len(), store.descriptors(), store.code_bytes(), store.parent()),
        (3, 5, 3, Some("{\"path\":\"p\"}"))
    );
    let images: Vec<_> = (0..3).map(|row| store.local(row).unwrap()).collect();
    assert_eq!((images[0].codes, images[0].size), (&codes[..6], [1, 2]));
    assert!(images[1].codes.is_empty() && images[1].xy.is_empty());
    assert_eq!((images[2].codes, images[2].xy), (&codes[6..], &xy[4..]));
    assert_eq!((images[2].angle, images[2].scale), (Some(&xy[2..5]), None));
}

#[test]
fn an_interrupted_append_ends_the_writer_and_keeps_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut writer = Writer::create(&path, Spec::binary(8).unwrap(), "{}", None, false).unwrap();
    writer.append(&["a"], &Batch::Binary(&[1]), &Control::new()).unwrap();
    writer.commit().unwrap();
    writer.set_shard_bytes(1).unwrap();
    let control = Control::new();
    control.interrupt();
    assert!(matches!(writer.append(&["b", "c"], &Batch::Binary(&[2, 3]), &control), Err(Error::Interrupted)));
    assert!(matches!(writer.commit(), Err(Error::Parameter { .. })));
    drop(writer);
    assert_eq!(Store::open(&path).unwrap().codes().unwrap(), [[1]]);
    assert!(verify(&path, false, &Control::new()).unwrap().leftovers.is_empty());
}
