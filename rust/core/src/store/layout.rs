//! Where tensors lie in a safetensors file of ours, and reading where they lie in any.

use std::ops::Range;

use safetensors::{Dtype, SafeTensors};

/// A header above this is refused; ours have some hundred bytes, other writers may add metadata.
const MAX_HEADER: u64 = 1 << 20;
/// What is read of a file to know its header: the length, and the longest there can be.
pub(super) const HEADER_BYTES: usize = 8 + MAX_HEADER as usize;
/// The tensor data begin at a multiple of this.
const ALIGN: usize = 64;
/// Fills the gap between the first tensor and those behind it, which need an alignment of their own.
pub(super) const PADDING: &str = "padding";

/// A tensor to be laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl Part {
    pub fn new(name: &str, dtype: Dtype, shape: Vec<usize>) -> Self {
        Self { name: name.to_owned(), dtype, shape }
    }

    /// Bytes of the tensor; `None` if that overflows.
    pub fn bytes(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1_usize, |product, extent| product.checked_mul(*extent))?;
        elements.checked_mul(width(self.dtype))
    }
}

/// Bytes an element; the dtypes of stores have whole bytes.
pub(super) fn width(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

/// The header of a file with these tensors, and the bytes of each, in the order given.
///
/// The first tensor comes first, at a multiple of 64; the others follow by falling element size, the first of
/// them at a multiple of 64 of the tensor data, so that each is aligned to its elements. Spaces make the header
/// at least `reserved` bytes long.
pub(super) fn layout(parts: &[Part], what: &str, reserved: usize) -> (Vec<u8>, Vec<Range<usize>>) {
    let size = |part: &Part| part.bytes().expect("sizes are checked before they are laid out");
    let mut order: Vec<usize> = (1..parts.len()).collect();
    order.sort_by_key(|part| std::cmp::Reverse(width(parts[*part].dtype)));
    let first = size(&parts[0]);
    let mut ranges = vec![0..first; parts.len()];
    let mut end = first.next_multiple_of(ALIGN);
    for &part in &order {
        ranges[part] = end..end + size(&parts[part]);
        end = ranges[part].end;
    }
    let describe = |name: &str, dtype: Dtype, shape: &[usize], range: &Range<usize>| {
        let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
        let (start, end) = (range.start, range.end);
        format!(
            "\"{name}\":{{\"dtype\":\"{dtype:?}\",\"shape\":[{}],\"data_offsets\":[{start},{end}]}}",
            shape.join(",")
        )
    };
    let of = |part: usize| describe(&parts[part].name, parts[part].dtype, &parts[part].shape, &ranges[part]);
    let mut tensors = vec![of(0)];
    let gap = first..first.next_multiple_of(ALIGN);
    if !gap.is_empty() && !order.is_empty() {
        tensors.push(describe(PADDING, Dtype::U8, &[gap.len()], &gap));
    }
    tensors.extend(order.iter().map(|part| of(*part)));
    let json = format!("{{\"__metadata__\":{{\"format\":\"ilias-fast {what}\"}},{}}}", tensors.join(","));
    let data = (8 + json.len()).max(reserved).next_multiple_of(ALIGN);
    let mut header = ((data - 8) as u64).to_le_bytes().to_vec();
    header.extend_from_slice(json.as_bytes());
    header.resize(data, b' ');
    for range in &mut ranges {
        *range = range.start + data..range.end + data;
    }
    (header, ranges)
}

/// A tensor as a header describes it, in bytes of the file.
#[derive(Debug)]
pub(super) struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub range: Range<usize>,
}

/// Reads a safetensors header; `bytes` is the whole file.
pub(super) fn parse_header(bytes: &[u8]) -> Result<Vec<Tensor>, String> {
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    let length = length.ok_or("expected a safetensors file, found less than 8 bytes")?;
    if length > MAX_HEADER {
        return Err(format!("safetensors header: expected at most {MAX_HEADER} bytes, found {length}"));
    }
    let (length, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|cause| format!("safetensors header: {cause}"))?;
    let data = 8 + length;
    let mut tensors: Vec<Tensor> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| Tensor {
            name,
            dtype: info.dtype,
            shape: info.shape.clone(),
            range: info.data_offsets.0 + data..info.data_offsets.1 + data,
        })
        .collect();
    tensors.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spec::{Optional, Spec};
    use super::*;

    proptest! {
        #[test]
        fn every_tensor_is_aligned(
            kind in 0..3, length in 1_usize..70, rows in 1_usize..9, descriptors in 0_usize..9,
            id_bytes in 1_usize..99, reserved in 0_usize..3000,
        ) {
            let spec = match kind {
                0 => Spec::global(length),
                1 => Spec::binary(length),
                _ => Spec::local(length, Optional { scale: true, angle: false, weight: true }),
            }.unwrap();
            let parts = spec.parts(rows, descriptors, id_bytes);
            let (mut file, ranges) = layout(&parts, "test", reserved);
            prop_assert!(file.len() >= reserved);
            prop_assert_eq!(ranges[0].start, file.len());
            for (part, range) in parts.iter().zip(&ranges) {
                prop_assert_eq!(range.start % width(part.dtype), 0);
                prop_assert_eq!(Some(range.len()), part.bytes());
            }
            prop_assert_eq!(ranges[0].start % ALIGN, 0);
            file.resize(ranges.iter().map(|range| range.end).max().unwrap(), 0);
            let found = parse_header(&file).unwrap();
            prop_assert!(found.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
            for (part, range) in parts.iter().zip(&ranges) {
                let tensor = found.iter().find(|tensor| tensor.name == part.name).unwrap();
                prop_assert_eq!((&tensor.range, &tensor.shape), (range, &part.shape));
            }
        }
    }
}
