//! What a store holds: its kind, the length of its rows, and which optional tensors it has.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

use super::layout::Part;

/// Longest vector, in numbers, and longest code, in bytes: more is a mistake in an argument or a damaged file.
const LONGEST: usize = 1 << 20;

/// The three kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One float16 vector an image.
    Global,
    /// One packed binary code an image.
    Binary,
    /// Any number of local descriptors (packed binary codes or float16 vectors) with keypoint positions an image.
    Local,
}

impl Kind {
    /// The name in the manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Binary => "binary",
            Self::Local => "local",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        [Self::Global, Self::Binary, Self::Local]
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| Error::parameter("kind", "global, binary or local", format!("{name:?}")))
    }
}

/// Which optional tensors the local descriptors of a store have: all of its images, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Optional {
    /// Keypoint scale, positive, in the units of the extractor.
    pub scale: bool,
    /// Keypoint angle, in radians.
    pub angle: bool,
    /// Descriptor weight (for example attention).
    pub weight: bool,
}

impl Optional {
    /// The tensors there are, by name, in the order of the manifest.
    pub fn names(self) -> Vec<&'static str> {
        [("scale", self.scale), ("angle", self.angle), ("weight", self.weight)]
            .into_iter()
            .filter_map(|(name, there)| there.then_some(name))
            .collect()
    }

    /// The set with those names.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<Self> {
        let mut set = Self::default();
        for name in names {
            let there = match name.as_ref() {
                "scale" => &mut set.scale,
                "angle" => &mut set.angle,
                "weight" => &mut set.weight,
                other => {
                    return Err(Error::parameter("optional", "scale, angle or weight", format!("{other:?}")));
                }
            };
            *there = true;
        }
        Ok(set)
    }
}

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    kind: Kind,
    length: usize,
    optional: Optional,
    /// Rows are float16 numbers, not packed bits.
    floats: bool,
}

impl Spec {
    /// Vectors of `dim` float16 numbers.
    pub fn global(dim: usize) -> Result<Self> {
        Self::new(Kind::Global, true, dim, Optional::default())
    }

    /// One code of `bits` bits an image.
    pub fn binary(bits: usize) -> Result<Self> {
        Self::new(Kind::Binary, false, bits, Optional::default())
    }

    /// Local descriptors of `bits` bits.
    pub fn local(bits: usize, optional: Optional) -> Result<Self> {
        Self::new(Kind::Local, false, bits, optional)
    }

    /// Local descriptors of `dim` float16 numbers.
    pub fn local_floats(dim: usize, optional: Optional) -> Result<Self> {
        Self::new(Kind::Local, true, dim, optional)
    }

    /// `length` is the dimension if descriptors are `floats`, and otherwise the number of bits.
    pub fn new(kind: Kind, floats: bool, length: usize, optional: Optional) -> Result<Self> {
        if kind != Kind::Local && floats != (kind == Kind::Global) {
            let expected = "float16 numbers in a global store, bits in a binary one";
            return Err(Error::parameter("kind", expected, kind.name()));
        }
        let (what, most) = if floats { ("dim", LONGEST) } else { ("bits", 8 * LONGEST) };
        if !(1..=most).contains(&length) {
            return Err(Error::parameter(what, format!("a whole number from 1 to {most}"), length));
        }
        if kind != Kind::Local && optional != Optional::default() {
            return Err(Error::parameter(
                "optional",
                "none (only local stores have them)",
                optional.names().join(", "),
            ));
        }
        Ok(Self { kind, length, optional, floats })
    }

    /// The kind.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Numbers a vector; 0 if the store holds codes.
    pub fn dim(&self) -> usize {
        if self.floats { self.length } else { 0 }
    }

    /// Bits a code; 0 if the store holds vectors.
    pub fn bits(&self) -> usize {
        if self.floats { 0 } else { self.length }
    }

    /// Bytes a packed code; 0 if the store holds vectors.
    pub fn code_bytes(&self) -> usize {
        self.bits().div_ceil(8)
    }

    /// The optional tensors of a local store.
    pub const fn optional(&self) -> Optional {
        self.optional
    }

    /// The tensors of a shard beside the id tables.
    pub(super) fn columns(&self) -> Vec<Column> {
        match self.kind {
            Kind::Global => vec![Column::Vectors],
            Kind::Binary => vec![Column::Codes],
            Kind::Local => {
                let mut columns = vec![Column::Offsets, Column::Xy];
                columns.extend(self.optional.scale.then_some(Column::Scale));
                columns.extend(self.optional.angle.then_some(Column::Angle));
                columns.extend(self.optional.weight.then_some(Column::Weight));
                columns.extend([Column::Size, self.main()]);
                columns
            }
        }
    }

    /// The tensors of a shard, the main one first.
    pub(super) fn parts(&self, rows: usize, descriptors: usize, id_bytes: usize) -> Vec<Part> {
        self.all_columns()
            .map(|column| {
                Part::new(column.name(), column.dtype(), column.shape(self, rows, descriptors, id_bytes))
            })
            .collect()
    }

    /// All tensors of a shard, the main one first.
    pub(super) fn all_columns(&self) -> impl Iterator<Item = Column> {
        let main = self.main();
        let others = self.columns().into_iter().chain(Column::IDS).filter(move |column| *column != main);
        std::iter::once(main).chain(others)
    }

    /// The tensor with the descriptors themselves.
    pub(super) const fn main(&self) -> Column {
        match self.kind {
            Kind::Global => Column::Vectors,
            Kind::Local if self.floats => Column::Descriptors,
            Kind::Binary | Kind::Local => Column::Codes,
        }
    }

    /// A phrase for messages: "a global store of dimension 512".
    pub fn describe(&self) -> String {
        match self.kind {
            Kind::Global => format!("a global store of dimension {}", self.length),
            Kind::Local if self.floats => format!("a local store of {} float16 numbers", self.length),
            kind => format!("a {} store of {} bits", kind.name(), self.length),
        }
    }
}

/// The tensors a shard can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Vectors,
    Codes,
    Descriptors,
    Offsets,
    Xy,
    Scale,
    Angle,
    Weight,
    Size,
    Ids,
    IdOffsets,
    IdHash,
    IdRow,
}

impl Column {
    pub const ALL: [Self; 13] = [
        Self::Vectors,
        Self::Codes,
        Self::Descriptors,
        Self::Offsets,
        Self::Xy,
        Self::Scale,
        Self::Angle,
        Self::Weight,
        Self::Size,
        Self::Ids,
        Self::IdOffsets,
        Self::IdHash,
        Self::IdRow,
    ];
    pub const COUNT: usize = Self::ALL.len();

    /// The id tables every shard has.
    pub const IDS: [Self; 4] = [Self::IdOffsets, Self::IdHash, Self::IdRow, Self::Ids];

    /// Name of the tensor.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vectors => "vectors",
            Self::Codes => "codes",
            Self::Descriptors => "descriptors",
            Self::Offsets => "offsets",
            Self::Xy => "xy",
            Self::Scale => "scale",
            Self::Angle => "angle",
            Self::Weight => "weight",
            Self::Size => "size",
            Self::Ids => "ids",
            Self::IdOffsets => "id_offsets",
            Self::IdHash => "id_hash",
            Self::IdRow => "id_row",
        }
    }

    /// Its safetensors dtype.
    pub const fn dtype(self) -> safetensors::Dtype {
        use safetensors::Dtype;
        match self {
            Self::Vectors | Self::Descriptors => Dtype::F16,
            Self::Codes | Self::Ids => Dtype::U8,
            Self::Xy | Self::Scale | Self::Angle | Self::Weight => Dtype::F32,
            Self::Size | Self::IdRow => Dtype::I32,
            Self::Offsets | Self::IdOffsets | Self::IdHash => Dtype::I64,
        }
    }

    /// Bytes an element.
    pub const fn width(self) -> usize {
        match self {
            Self::Codes | Self::Ids => 1,
            Self::Vectors | Self::Descriptors => 2,
            Self::Xy | Self::Scale | Self::Angle | Self::Weight | Self::Size | Self::IdRow => 4,
            Self::Offsets | Self::IdOffsets | Self::IdHash => 8,
        }
    }

    /// Its shape in a shard of `rows` images, `descriptors` local descriptors and `id_bytes` bytes of ids.
    pub fn shape(self, spec: &Spec, rows: usize, descriptors: usize, id_bytes: usize) -> Vec<usize> {
        match self {
            Self::Vectors => vec![rows, spec.dim()],
            Self::Codes if spec.kind() == Kind::Binary => vec![rows, spec.code_bytes()],
            Self::Codes => vec![descriptors, spec.code_bytes()],
            Self::Descriptors => vec![descriptors, spec.dim()],
            Self::Offsets | Self::IdOffsets => vec![rows + 1],
            Self::Xy => vec![descriptors, 2],
            Self::Scale | Self::Angle | Self::Weight => vec![descriptors],
            Self::Size => vec![rows, 2],
            Self::Ids => vec![id_bytes],
            Self::IdHash | Self::IdRow => vec![rows],
        }
    }
}
