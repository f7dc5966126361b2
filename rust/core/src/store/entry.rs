//! What a manifest promises of one shard and of the files that belong to it.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::checksum::BLOCK;
use super::spec::Kind;
use super::tombstones::Tombstones;

/// Longest name of a kind of derived file.
const MAX_KIND: usize = 32;

/// A file inside `shards/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub name: String,
    /// Size of the file.
    pub bytes: u64,
    /// XXH3-64 of each block of the file.
    pub blocks: Vec<u64>,
}

/// A file with tensors computed from a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Derived {
    pub kind: String,
    pub file: Listed,
    /// How they were computed: a JSON object, verbatim.
    pub parameters: String,
}

/// One shard, as the manifest promises it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub file: Listed,
    pub rows: usize,
    /// Local descriptors of all rows; 0 in other kinds.
    pub descriptors: usize,
    /// At most one a kind.
    pub derived: Vec<Derived>,
    pub deleted: Tombstones,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEntry {
    file: String,
    rows: usize,
    #[serde(default)]
    descriptors: usize,
    bytes: u64,
    blocks: Vec<String>,
    #[serde(default)]
    derived: Vec<RawDerived>,
    #[serde(default)]
    deleted: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDerived {
    kind: String,
    file: String,
    bytes: u64,
    blocks: Vec<String>,
    parameters: Box<RawValue>,
}

/// Whether `name` may name a kind of derived file, or a tensor in one: it becomes part of a file name.
pub(super) fn is_kind(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=MAX_KIND).contains(&name.len()) && name.bytes().all(plain)
}

/// `value` if it is a JSON object.
pub(super) fn object(what: &str, value: &RawValue) -> Result<String, String> {
    let text = value.get();
    if text.starts_with('{') {
        Ok(text.to_owned())
    } else {
        Err(format!("{what}: expected an object, found {text:.40}"))
    }
}

impl Listed {
    fn check(name: String, bytes: u64, blocks: &[String]) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        // No separators and no leading dot: a name cannot leave the folder.
        if !name.ends_with(".safetensors") || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(format!("expected the plain name of a .safetensors file, found {name:?}"));
        }
        // The manifest has 16 digits for every block, so the bytes of all files cannot add up to an overflow.
        let expected = bytes.div_ceil(BLOCK as u64);
        if blocks.len() as u64 != expected {
            return Err(format!("{name}: expected {expected} block checksums, found {}", blocks.len()));
        }
        let parse = |text: &String| {
            let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let value = plain.then(|| u64::from_str_radix(text, 16).ok()).flatten();
            value.ok_or_else(|| format!("{name}: expected 16 hex digits, found {text:?}"))
        };
        let blocks = blocks.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { name, bytes, blocks })
    }

    fn write_sizes(&self, text: &mut String) -> std::fmt::Result {
        write!(text, "\"bytes\":{},\"blocks\":[", self.bytes)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(text, "{comma}\"{block:016x}\"")?;
        }
        text.push(']');
        Ok(())
    }
}

impl RawEntry {
    pub fn check(self, kind: Kind) -> Result<Entry, String> {
        let file = Listed::check(self.file, self.bytes, &self.blocks)?;
        let (rows, descriptors) = (self.rows, self.descriptors);
        if rows == 0 || rows > i32::MAX as usize {
            return Err(format!("shard {}: expected 1 to {} rows, found {rows}", file.name, i32::MAX));
        }
        if kind != Kind::Local && descriptors != 0 {
            return Err(format!(
                "shard {}: expected no descriptors in this kind of store, found {descriptors}",
                file.name
            ));
        }
        let mut kinds = HashSet::new();
        let mut derived = Vec::with_capacity(self.derived.len());
        for raw in self.derived {
            if !is_kind(&raw.kind) || !kinds.insert(raw.kind.clone()) {
                let expected = "kinds of derived files that differ, of a-z, 0-9 and _";
                return Err(format!("shard {}: expected {expected}, found {:?}", file.name, raw.kind));
            }
            derived.push(Derived {
                kind: raw.kind,
                file: Listed::check(raw.file, raw.bytes, &raw.blocks)?,
                parameters: object("parameters", &raw.parameters)?,
            });
        }
        let deleted = Tombstones::check(&self.deleted, rows)
            .map_err(|fault| format!("shard {}: {fault}", file.name))?;
        Ok(Entry { file, rows, descriptors, derived, deleted })
    }
}

impl Entry {
    /// Rows that are not deleted.
    pub fn live(&self) -> usize {
        self.rows - self.deleted.rows()
    }

    /// Every file of the shard.
    pub fn files(&self) -> impl Iterator<Item = &Listed> {
        std::iter::once(&self.file).chain(self.derived.iter().map(|derived| &derived.file))
    }

    /// Writes the JSON object that [`RawEntry`] reads. Names are plain and need no quoting.
    pub fn write(&self, kind: Kind, text: &mut String) -> std::fmt::Result {
        write!(text, "{{\"file\":\"{}\",\"rows\":{},", self.file.name, self.rows)?;
        if kind == Kind::Local {
            write!(text, "\"descriptors\":{},", self.descriptors)?;
        }
        self.file.write_sizes(text)?;
        for (index, derived) in self.derived.iter().enumerate() {
            text.push_str(if index == 0 { ",\"derived\":[" } else { "," });
            write!(text, "{{\"kind\":\"{}\",\"file\":\"{}\",", derived.kind, derived.file.name)?;
            derived.file.write_sizes(text)?;
            write!(text, ",\"parameters\":{}}}", derived.parameters)?;
        }
        text.push_str(if self.derived.is_empty() { "" } else { "]" });
        self.deleted.write(text)?;
        text.push('}');
        Ok(())
    }
}
