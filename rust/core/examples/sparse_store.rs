//! Writes a store that is large only by its claims, to measure how stores of that size open:
//! `cargo run --example sparse_store -- FOLDER SHARDS ROWS_OF_A_SHARD DIM`. Its tensors are holes, so it does not verify.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_64;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, numbers @ ..] = &arguments[..] else {
        return Err("expected FOLDER SHARDS ROWS DIM".into());
    };
    let numbers: Vec<usize> = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
    let [shards, rows, dim] = numbers[..] else {
        return Err("expected FOLDER SHARDS ROWS DIM".into());
    };
    let folder = PathBuf::from(folder);
    fs::create_dir_all(folder.join("shards"))?;
    let (mut end, mut tensors) = (0, Vec::new());
    for (name, dtype, shape, bytes) in [
        ("vectors", "F16", format!("{rows},{dim}"), 2 * rows * dim),
        ("id_offsets", "I64", format!("{}", rows + 1), 8 * (rows + 1)),
        ("id_hash", "I64", format!("{rows}"), 8 * rows),
        ("id_row", "I32", format!("{rows}"), 4 * rows),
        ("ids", "U8", format!("{}", 20 * rows), 20 * rows),
    ] {
        let start = end;
        end += bytes;
        tensors.push(format!(
            "\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[{shape}],\"data_offsets\":[{start},{end}]}}"
        ));
    }
    let mut header = format!("{{{}}}", tensors.join(","));
    header.extend(std::iter::repeat_n(' ', 1016 - header.len()));
    let bytes = 1024 + end;
    let blocks = vec!["\"0000000000000000\""; bytes.div_ceil(4 << 20)].join(",");
    let mut entries = Vec::new();
    for shard in 0..shards {
        let name = format!("{shard:06}-0000000000000000.safetensors");
        let mut file = File::create(folder.join("shards").join(&name))?;
        file.write_all(&1016_u64.to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        file.set_len(bytes as u64)?;
        entries
            .push(format!("{{\"file\":\"{name}\",\"rows\":{rows},\"bytes\":{bytes},\"blocks\":[{blocks}]}}"));
    }
    let manifest = format!(
        "{{\"format\":\"ilias-fast store\",\"version\":1,\"writer\":\"sparse_store\",\"kind\":\"global\",\"dim\":{dim},\
         \"rows\":{},\"block_bytes\":4194304,\"shards\":[{}],\"provenance\":{{}},\"parent\":null,\n",
        shards * rows,
        entries.join(",\n")
    );
    let checksum = xxh3_64(manifest.as_bytes());
    fs::write(folder.join("manifest.json"), format!("{manifest}\"checksum\":\"{checksum:016x}\"}}\n"))?;
    Ok(())
}
