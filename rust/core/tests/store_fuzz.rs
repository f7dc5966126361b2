//! Replays the corpus of the fuzzer, and (once) writes the seeds it starts from.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/drive.rs"]
mod drive;

#[test]
fn the_corpus_is_survived() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/store");
    if let Some(seeds) = std::env::var_os("ILIAS_FAST_FUZZ_SEEDS") {
        write_seeds(Path::new(&seeds));
    }
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        drive::drive(&fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 10, "{inputs} inputs in {}", folder.display());
    let _ = fs::remove_dir_all(drive::bases()[0].parent().unwrap());
}

/// The files as they are: what the fuzzer mutates first.
fn write_seeds(folder: &Path) {
    for (index, base) in drive::bases().iter().enumerate() {
        for (number, file) in drive::files(base).iter().enumerate() {
            let mut input = vec![index as u8, number as u8];
            input.extend(fs::read(file).unwrap());
            fs::write(folder.join(format!("seed-{index}-{number}")), input).unwrap();
        }
    }
}
