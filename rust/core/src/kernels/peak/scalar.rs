//! The reference.

use std::hint::black_box;

/// 16 lanes, which a compiler may or may not put into vectors.
pub fn fma(steps: u64) -> f32 {
    let (mut sums, factor) = ([0.0_f32; 16], black_box(0.999_f32));
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = *sum * factor + 1.0;
        }
    }
    sums.iter().sum()
}

/// 64 lanes.
pub fn int8(steps: u64) -> i32 {
    let (mut sums, values) = ([0_i32; 16], black_box([3_i8; 64]));
    for step in 0..steps {
        for (sum, values) in sums.iter_mut().zip(values.as_chunks::<4>().0) {
            for &value in values {
                *sum = sum.wrapping_add(i32::from(value) * (step as i32 & 127));
            }
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

/// The exclusive or of the words at multiples of 8, the last padded with zeros.
pub fn read(bytes: &[u8]) -> u64 {
    let (words, ragged) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..ragged.len()].copy_from_slice(ragged);
    words.iter().fold(u64::from_le_bytes(last), |all, word| all ^ u64::from_le_bytes(*word))
}
