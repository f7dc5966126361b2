"""Small fitted adapters."""

from __future__ import annotations

import numpy as np

from ilias_fast.adapt import Adapter, Itq, LinearAdapter, PcaWhitening, SupervisedWhitening

KINDS = ("pca", "lw", "itq", "linear")


def fitted(kind: str, rng: np.random.Generator) -> Adapter:
    """Return a fitted adapter of 16 dimensions."""
    train = rng.random((60, 16))
    if kind == "pca":
        return PcaWhitening.fit(train, 6)
    if kind == "lw":
        return SupervisedWhitening.fit(train, np.arange(30), np.arange(30, 60), 6)
    return Itq.fit(train, 8) if kind == "itq" else LinearAdapter(train[:5], train[5, :5])
