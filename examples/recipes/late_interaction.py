"""MaxSim scoring for late-interaction retrieval (ColBERT, ColPali)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ilias_fast.kernels import chamfer


def make_data(size: int, seed: int = 0) -> dict[str, Any]:
    """Return the token embeddings of a query and of `size` documents of 20 to 180 tokens, in float16."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 180, size)
    tokens = rng.standard_normal((lengths.sum(), 128), dtype=np.float32)
    tokens = (tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).astype(np.float16)
    query = rng.standard_normal((32, 128), dtype=np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    return {"query": query, "tokens": tokens, "offsets": np.concatenate([[0], np.cumsum(lengths)])}


# --8<-- [start:before]
def before(query: Any, tokens: Any, offsets: Any) -> Any:
    """Score with torch: one product with all tokens, a maximum a document."""
    import torch

    with torch.inference_mode():
        similarity = torch.from_numpy(tokens).float() @ torch.from_numpy(query).T
        lengths = torch.from_numpy(np.diff(offsets))
        best = torch.segment_reduce(similarity, "max", lengths=lengths, axis=0)
        return best.sum(1).numpy()


# --8<-- [end:before]


# --8<-- [start:after]
def after(query: Any, tokens: Any, offsets: Any) -> Any:
    """Score in one call; no matrix of similarities, no padding."""
    return chamfer(query, tokens, offsets)


# --8<-- [end:after]


def run_before(data: dict[str, Any]) -> Any:
    """Call `before`."""
    return before(data["query"], data["tokens"], data["offsets"])


def run_after(data: dict[str, Any]) -> Any:
    """Call `after`."""
    return after(data["query"], data["tokens"], data["offsets"])


def check(theirs: Any, ours: Any, data: dict[str, Any]) -> bool:
    """Say whether the scores agree to float32 rounding."""
    del data
    return np.allclose(theirs, ours, rtol=1e-4, atol=1e-4)
