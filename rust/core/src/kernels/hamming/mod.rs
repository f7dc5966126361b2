//! Hamming distances between packed binary codes.
