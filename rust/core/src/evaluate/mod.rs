//! Average precision.
