//! What re-ranking needs to know of an image: a view, and where views come from.

use crate::error::{Error, Result};

/// The local descriptors of one image, read in place.
#[derive(Debug, Clone, Copy)]
pub struct Descriptors<'a> {
    /// Packed codes, `bytes` each.
    pub codes: &'a [u8],
    /// Bytes a code.
    pub bytes: usize,
    /// Positions (x, y) normalised to [0, 1] by width and height, two values a descriptor.
    pub xy: &'a [f32],
    /// Keypoint scales, in pixels.
    pub scale: Option<&'a [f32]>,
    /// Keypoint angles, in radians.
    pub angle: Option<&'a [f32]>,
    /// Width and height in pixels.
    pub size: [u32; 2],
}

impl Descriptors<'_> {
    /// Number of descriptors.
    pub fn len(&self) -> usize {
        self.codes.len() / self.bytes
    }

    /// Whether the image has no descriptors.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The first `most` descriptors (stores keep the strongest first).
    #[must_use]
    pub fn truncate(self, most: usize) -> Self {
        let keep = self.len().min(most);
        Self {
            codes: &self.codes[..keep * self.bytes],
            xy: &self.xy[..2 * keep],
            scale: self.scale.map(|scale| &scale[..keep]),
            angle: self.angle.map(|angle| &angle[..keep]),
            ..self
        }
    }

    /// Position of descriptor `index` in units of the image's longer side, so that distances are isotropic.
    pub fn position(&self, index: usize) -> [f32; 2] {
        let [width, height] = self.size.map(|side| side.max(1) as f32);
        let longer = width.max(height);
        [self.xy[2 * index] * (width / longer), self.xy[2 * index + 1] * (height / longer)]
    }

    /// Scale of descriptor `index` in units of the image's longer side, and its angle; None unless both exist.
    pub fn geometry(&self, index: usize) -> Option<[f32; 2]> {
        let longer = self.size[0].max(self.size[1]).max(1) as f32;
        Some([self.scale?[index] / longer, self.angle?[index]])
    }

    /// Checks that the columns have one entry for each descriptor.
    pub fn check(self, what: &str) -> Result<Self> {
        let len = self.codes.len() / self.bytes.max(1);
        let columns = [("codes", self.codes.len(), len * self.bytes), ("xy", self.xy.len(), 2 * len)]
            .into_iter()
            .chain(self.scale.map(|column| ("scale", column.len(), len)))
            .chain(self.angle.map(|column| ("angle", column.len(), len)));
        for (name, found, expected) in columns {
            if found != expected || self.bytes == 0 {
                let what = format!("{what}: {name}");
                return Err(Error::shape(
                    what,
                    format!("{expected} values for {len} descriptors"),
                    found.to_string(),
                ));
            }
        }
        Ok(self)
    }
}

/// Images by row: a local store, or arrays.
pub trait Source: Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The descriptors of the image in row `row`, below [`Self::len`].
    fn descriptors(&self, row: usize) -> Result<Descriptors<'_>>;

    /// What messages call the image in row `row`.
    fn name(&self, row: usize) -> String {
        format!("row {row}")
    }
}
