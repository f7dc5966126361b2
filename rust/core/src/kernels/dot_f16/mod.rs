//! Inner products of float16 rows with float32 queries.
