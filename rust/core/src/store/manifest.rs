//! `manifest.json`: reading it with every claim checked, and writing it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Result};

use super::MANIFEST;
use super::checksum::{BLOCK, hash};
use super::entry::{Entry, Listed, RawEntry, object};
use super::lock::check_regular;
use super::spec::{Kind, Optional, Spec};

const FORMAT: &str = "ilias-fast store";
const VERSION: u64 = 1;
const BIT_ORDER: &str = "msb-first";
const SIGN_RULE: &str = "bit = (value >= 0)";
/// A manifest above this size is refused before it is read; 100 TB of shards need 0.5 GiB of it.
const MAX_BYTES: u64 = 1 << 30;

/// The content of a manifest.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub spec: Spec,
    pub shards: Vec<Entry>,
    /// A JSON object, verbatim.
    pub provenance: String,
    /// A JSON object, verbatim.
    pub parent: Option<String>,
}

#[derive(Deserialize)]
struct Version {
    format: String,
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "version")]
    _version: u64,
    #[serde(rename = "writer")]
    _writer: String,
    kind: Kind,
    dim: Option<usize>,
    bits: Option<usize>,
    bit_order: Option<String>,
    sign_rule: Option<String>,
    #[serde(default)]
    optional: Vec<String>,
    rows: usize,
    block_bytes: usize,
    shards: Vec<RawEntry>,
    provenance: Box<RawValue>,
    parent: Option<Box<RawValue>>,
    checksum: String,
}

/// The last bytes of a manifest, of fixed length; the checksum covers everything before them.
fn tail(checksum: u64) -> String {
    format!("\"checksum\":\"{checksum:016x}\"}}\n")
}

impl Manifest {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.shards.iter().map(Entry::live).sum()
    }

    /// Every file of `shards/` that belongs to the store.
    pub fn files(&self) -> impl Iterator<Item = &Listed> {
        self.shards.iter().flat_map(Entry::files)
    }

    /// Size of those files.
    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.bytes).sum()
    }

    /// Reads and checks the manifest of the store in `folder`; also returns its checksum.
    pub fn read(folder: &Path) -> Result<(Self, u64)> {
        let path = folder.join(MANIFEST);
        let not_a_store = |detail: String| Error::NotAStore { path: folder.to_owned(), detail };
        check_regular(&path)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(cause)
                if matches!(
                    cause.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                let found = if !folder.exists() {
                    "nothing there"
                } else if folder.is_dir() {
                    "a folder without it (a store appears with its first commit)"
                } else {
                    "a file"
                };
                return Err(not_a_store(format!(
                    "expected a store (a folder with {MANIFEST}), found {found}"
                )));
            }
            Err(cause) => return Err(Error::io(&path, "open")(cause)),
        };
        let size = file.metadata().map_err(Error::io(&path, "read"))?.len();
        if size > MAX_BYTES {
            return Err(Error::corrupt(&path, format!("expected at most {MAX_BYTES} bytes, found {size}")));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(Error::io(&path, "read"))?;
        Self::parse(folder, &path, &bytes)
    }

    fn parse(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(Self, u64)> {
        let corrupt = |detail: String| Error::corrupt(path, detail);
        // What it is comes before whether it is whole: a newer version may compute its checksum in another way.
        let version: Version = serde_json::from_slice(bytes).map_err(|cause| {
            corrupt(format!("expected a manifest in JSON, found {} bytes where {cause}", bytes.len()))
        })?;
        if version.format != FORMAT || version.version != VERSION {
            let expected = format!("format {FORMAT:?} version {VERSION}");
            let found = format!("{:?} version {}", version.format, version.version);
            let detail = format!("expected {expected}, found {found} (a newer ilias-fast may read it)");
            return Err(Error::NotAStore { path: folder.to_owned(), detail });
        }
        let covered = bytes.len().saturating_sub(tail(0).len());
        let checksum = hash(&bytes[..covered]);
        if bytes[covered..] != *tail(checksum).as_bytes() {
            return Err(corrupt(format!(
                "checksum mismatch: expected the manifest to end in {:?}, found {:?}",
                tail(checksum),
                String::from_utf8_lossy(&bytes[covered..])
            )));
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|cause| corrupt(cause.to_string()))?;
        let manifest = raw.check().map_err(corrupt)?;
        Ok((manifest, checksum))
    }

    /// The bytes of the manifest, and its checksum.
    pub fn serialise(&self) -> (Vec<u8>, u64) {
        let mut text = String::new();
        self.write(&mut text).expect("writing to a String cannot fail");
        let checksum = hash(text.as_bytes());
        text += &tail(checksum);
        (text.into_bytes(), checksum)
    }

    /// Writes everything before the checksum.
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let kind = self.spec.kind();
        writeln!(text, "{{\n\"format\":{},\n\"version\":{VERSION},", quote(FORMAT))?;
        writeln!(text, "\"writer\":{},", quote(concat!("ilias-fast ", env!("CARGO_PKG_VERSION"))))?;
        writeln!(text, "\"kind\":{},", quote(kind.name()))?;
        if self.spec.dim() > 0 {
            writeln!(text, "\"dim\":{},", self.spec.dim())?;
        } else {
            writeln!(text, "\"bits\":{},", self.spec.bits())?;
            writeln!(text, "\"bit_order\":{},\n\"sign_rule\":{},", quote(BIT_ORDER), quote(SIGN_RULE))?;
        }
        if kind == Kind::Local {
            let names: Vec<String> = self.spec.optional().names().into_iter().map(quote).collect();
            writeln!(text, "\"optional\":[{}],", names.join(","))?;
        }
        write!(text, "\"rows\":{},\n\"block_bytes\":{BLOCK},\n\"shards\":[", self.rows())?;
        for (index, shard) in self.shards.iter().enumerate() {
            text.push_str(if index == 0 { "\n" } else { ",\n" });
            shard.write(kind, text)?;
        }
        writeln!(text, "],\n\"provenance\":{},", self.provenance)?;
        writeln!(text, "\"parent\":{},", self.parent.as_deref().unwrap_or("null"))
    }
}

impl Raw {
    fn check(self) -> Result<Manifest, String> {
        let floats = self.dim.is_some();
        let ((Some(length), None) | (None, Some(length))) = (self.dim, self.bits) else {
            return Err("expected either \"dim\" or \"bits\"".to_owned());
        };
        if !floats {
            for (key, found, expected) in
                [("bit_order", &self.bit_order, BIT_ORDER), ("sign_rule", &self.sign_rule, SIGN_RULE)]
            {
                if found.as_deref() != Some(expected) {
                    return Err(format!("{key}: expected {expected:?}, found {found:?}"));
                }
            }
        }
        let spec = Optional::from_names(&self.optional)
            .and_then(|optional| Spec::new(self.kind, floats, length, optional))
            .map_err(|cause| cause.to_string())?;
        if self.block_bytes != BLOCK {
            return Err(format!("block_bytes: expected {BLOCK}, found {}", self.block_bytes));
        }
        let mut names = HashSet::new();
        let mut total = 0_usize;
        let mut shards = Vec::with_capacity(self.shards.len());
        for raw in self.shards {
            let entry = raw.check(self.kind)?;
            if let Some(twice) = entry.files().find(|file| !names.insert(file.name.clone())) {
                return Err(format!("file {:?} is listed twice", twice.name));
            }
            total = total.checked_add(entry.live()).ok_or("the number of rows overflows")?;
            shards.push(entry);
        }
        if total != self.rows {
            return Err(format!("rows: expected {total} (the sum over the shards), found {}", self.rows));
        }
        let provenance = object("provenance", &self.provenance)?;
        let parent = self.parent.map(|parent| object("parent", &parent)).transpose()?;
        debug_assert_eq!(self.checksum.len(), 16);
        Ok(Manifest { spec, shards, provenance, parent })
    }
}

/// `text` if it is a JSON object.
pub(super) fn json_object(what: &str, text: &str) -> Result<String> {
    let fault = |found: String| Error::parameter(what, "a JSON object", found);
    let value: Box<RawValue> = serde_json::from_str(text).map_err(|cause| fault(cause.to_string()))?;
    let text = value.get();
    if text.starts_with('{') { Ok(text.to_owned()) } else { Err(fault(text.chars().take(40).collect())) }
}
