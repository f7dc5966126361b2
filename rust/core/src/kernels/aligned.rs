//! Buffers that start on a cache line, so that a 64-byte load never straddles two.

use std::marker::PhantomData;

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

mod sealed {
    /// Types of which every pattern of bits is a value, without padding, no more aligned than a line.
    pub trait Plain: Copy {}
    impl Plain for f32 {}
    impl Plain for u8 {}
    impl Plain for u16 {}
    impl Plain for i8 {}
    impl Plain for u64 {}
}

/// A zero-initialised buffer aligned to 64 bytes; its length is rounded up to whole lines.
#[derive(Debug, Clone, Default)]
pub struct Aligned<T = f32>(Vec<Line>, PhantomData<T>);

impl<T: sealed::Plain> Aligned<T> {
    const PER_LINE: usize = size_of::<Line>() / size_of::<T>();

    /// At least `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self(vec![Line([0; 64]); len.div_ceil(Self::PER_LINE)], PhantomData)
    }

    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the lines are contiguous bytes, and `Plain` promises that they are values of `T`.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * Self::PER_LINE) }
    }

    /// The elements, to write.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * Self::PER_LINE) }
    }
}
