"""The methods of re-ranking: their names, their options, the default weights of their ensembles."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ilias_fast._files import StrPath
from ilias_fast.errors import ParameterError
from ilias_fast.rerank.options import ChamferOptions, SpatialOptions, check_descriptors, expect, number, whole

__all__ = [
    "METHODS",
    "AmesOptions",
    "DiffusionOptions",
    "KReciprocalOptions",
    "Method",
    "Options",
    "Weights",
    "default_weights",
    "known_method",
    "options_for",
    "options_from_dict",
]

Method = Literal["spatial", "chamfer", "ames", "k-reciprocal", "diffusion"]


@dataclass(frozen=True)
class AmesOptions:
    """Options of re-ranking by AMES.

    Attributes:
        checkpoint: Path of a published checkpoint.
        query_descriptors: Use only the first so many descriptors of a query (600 in the paper); None: all.
        database_descriptors: The same for database images (100 in the paper).
        heads: Attention heads of the network.
        dtype: "float32", "bfloat16" or "float16".
        device: "cpu", or a CUDA device.
        batch: Pairs at a time; None for 4 on the CPU and 64 on a GPU.
        cache_bytes: Bound on the encodings of database images that are kept for the queries that follow.

    Raises:
        ParameterError: A value is out of range.

    Examples:
        >>> AmesOptions("ames.pth", database_descriptors=50).to_dict()["query_descriptors"]
        600
    """

    checkpoint: StrPath
    query_descriptors: int | None = 600
    database_descriptors: int | None = 100
    heads: int = 2
    dtype: str = "float32"
    device: str = "cpu"
    batch: int | None = None
    cache_bytes: int = 1 << 28

    def __post_init__(self) -> None:
        is_path = isinstance(self.checkpoint, (str, os.PathLike))
        expect(is_path, "checkpoint", "the path of a checkpoint", self.checkpoint)
        # One form of a path, so that options read back from a file equal those they were.
        object.__setattr__(self, "checkpoint", str(Path(self.checkpoint)))
        check_descriptors(self.query_descriptors, self.database_descriptors)
        for name, least in (("heads", 1), ("batch", 1), ("cache_bytes", 0)):
            value = getattr(self, name)
            accepted = whole(value, least) or (name == "batch" and value is None)
            expect(accepted, name, f"a whole number from {least}", value)
        dtypes = ("float32", "bfloat16", "float16")
        expect(self.dtype in dtypes, "dtype", "'float32', 'bfloat16' or 'float16'", self.dtype)

    def to_dict(self) -> dict[str, object]:
        """Return the options as plain values, for provenance."""
        return asdict(self)


@dataclass(frozen=True)
class KReciprocalOptions:
    """Options of k-reciprocal re-ranking (Zhong et al., CVPR 2017) within the shortlist.

    Attributes:
        k1: Neighbours that make the reciprocal sets.
        k2: Neighbours whose encodings are averaged; 1 leaves them alone.

    Raises:
        ParameterError: A value is out of range.

    Examples:
        >>> KReciprocalOptions(k1=30).to_dict()
        {'k1': 30, 'k2': 6}
    """

    k1: int = 20
    k2: int = 6

    def __post_init__(self) -> None:
        for name in ("k1", "k2"):
            expect(whole(getattr(self, name), 1), name, "a whole number from 1", getattr(self, name))

    def to_dict(self) -> dict[str, object]:
        """Return the options as plain values, for provenance."""
        return asdict(self)


@dataclass(frozen=True)
class DiffusionOptions:
    """Options of diffusion on the mutual nearest neighbours within the shortlist.

    Attributes:
        k: Neighbours of an image in the graph.
        alpha: Share of the score that flows on, in (0, 1).
        gamma: Exponent of the similarities, positive.

    Raises:
        ParameterError: A value is out of range.

    Examples:
        >>> DiffusionOptions(k=20).to_dict()
        {'k': 20, 'alpha': 0.99, 'gamma': 3.0}
    """

    k: int = 50
    alpha: float = 0.99
    gamma: float = 3.0

    def __post_init__(self) -> None:
        expect(whole(self.k, 1), "k", "a whole number from 1", self.k)
        expect(number(self.alpha) and 0 < self.alpha < 1, "alpha", "a number between 0 and 1", self.alpha)
        expect(number(self.gamma) and self.gamma > 0, "gamma", "a number above 0", self.gamma)

    def to_dict(self) -> dict[str, object]:
        """Return the options as plain values, for provenance."""
        return asdict(self)


Options = SpatialOptions | ChamferOptions | AmesOptions | KReciprocalOptions | DiffusionOptions


@dataclass(frozen=True)
class Weights:
    """Weights of the ensemble `lam * global + (1 - lam) * f(local)`.

    Attributes:
        lam: Weight of the global score, in [0, 1].
        gamma: Slope of the local score, positive; None if f is the identity, else f(x) is sigmoid(gamma x).
        calibrate: Whether local scores are measured against the query's shortlist first
            (`ensemble.calibrated`).
    """

    lam: float
    gamma: float | None
    calibrate: bool


@dataclass(frozen=True)
class _Entry:
    options: type[Options]
    weights: Weights


METHODS: Mapping[str, _Entry] = {
    "spatial": _Entry(SpatialOptions, Weights(0.3, 0.1, calibrate=False)),
    "chamfer": _Entry(ChamferOptions, Weights(0.85, 0.3, calibrate=True)),
    # As published for the binary network (PROTOCOLS: tuned on GLDv2 with SuperGlobal similarities).
    "ames": _Entry(AmesOptions, Weights(0.35, 0.1, calibrate=False)),
    "k-reciprocal": _Entry(KReciprocalOptions, Weights(0.3, None, calibrate=False)),
    "diffusion": _Entry(DiffusionOptions, Weights(0.0, None, calibrate=False)),
}
"""All methods: what their options are called, and the default weights (`docs/rerank.md` says where from)."""


def known_method(name: object) -> str:
    """Return the name of a method.

    Args:
        name: The name.

    Raises:
        ParameterError: There is no such method; the message names the nearest one.
    """
    if isinstance(name, str) and name in METHODS:
        return name
    near = difflib.get_close_matches(name, METHODS, 1, 0.5) if isinstance(name, str) else []
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ParameterError(f"method: expected one of {', '.join(METHODS)}, found {name!r}{hint}")


def options_for(method: str, options: Options | None) -> Options:
    """Return the options of a method, the defaults for None.

    Args:
        method: The method.
        options: Its options.

    Raises:
        ParameterError: The method is unknown, or the options are of another, or it has no defaults.
    """
    kind = METHODS[known_method(method)].options
    if options is None:
        if kind is AmesOptions:
            raise ParameterError("options: expected AmesOptions with the path of a checkpoint, found None")
        return kind()  # type: ignore[call-arg]
    if not isinstance(options, kind):
        raise ParameterError(
            f"options: expected {kind.__name__} for {method!r}, found {type(options).__name__}"
        )
    return options


def options_from_dict(method: str, fields: Mapping[str, Any]) -> Options:
    """Return options from what `to_dict` made of them.

    Args:
        method: The method.
        fields: The plain values.

    Raises:
        ParameterError: The method or a field is unknown, or a value is out of range.
    """
    kind = METHODS[known_method(method)].options
    try:
        return kind(**fields)
    except TypeError as cause:
        raise ParameterError(f"options: expected the fields of {kind.__name__}: {cause}") from cause


def default_weights(method: str) -> Weights:
    """Return the default weights of a method; `docs/rerank.md` says what they were chosen on.

    Args:
        method: The method.

    Raises:
        ParameterError: The method is unknown.
    """
    return METHODS[known_method(method)].weights
