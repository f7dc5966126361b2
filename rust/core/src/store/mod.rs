//! Descriptor stores.
