//! Re-ranking with local descriptors.
