"""The options of re-ranking, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

from ilias_fast import _arrays
from ilias_fast.errors import ParameterError

__all__ = ["ChamferOptions", "SpatialOptions", "check_descriptors", "expect", "number", "whole"]


def expect(valid: bool, name: str, expected: str, found: object) -> None:
    """Refuse a value that is not valid."""
    if not valid:
        raise ParameterError(f"{name}: expected {expected}, found {found!r}")


def whole(value: object, least: int) -> bool:
    """Whether a value is a whole number that is at least `least` and below 2^31."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31


def number(value: object) -> bool:
    """Whether a value is a finite number."""
    if isinstance(value, int) and abs(value) > 2**53:
        return False
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check_descriptors(query: object, database: object) -> None:
    """Refuse numbers of descriptors that are neither None nor whole."""
    for name, value in (("query_descriptors", query), ("database_descriptors", database)):
        expect(value is None or whole(value, 0), name, "None or a whole number from 0", value)


@dataclass(frozen=True)
class ChamferOptions:
    """Options of Chamfer re-ranking.

    Attributes:
        query_descriptors: Use only the first so many descriptors of a query; None uses all, as the ILIAS
            paper does. Our extraction stores the strongest keypoints first, and what is nearest to a query's
            weaker ones is mostly chance: summed up over hundreds of them, it outweighs the object
            (`docs/rerank.md`).
        database_descriptors: The same for database images; None uses all.

    Raises:
        ParameterError: A value is out of range.

    Examples:
        >>> ChamferOptions(database_descriptors=100).to_dict()
        {'query_descriptors': 200, 'database_descriptors': 100}
    """

    query_descriptors: int | None = 200
    database_descriptors: int | None = None

    def __post_init__(self) -> None:
        check_descriptors(self.query_descriptors, self.database_descriptors)

    def to_dict(self) -> dict[str, object]:
        """Return the options as plain values, for provenance."""
        return asdict(self)


@dataclass(frozen=True)
class SpatialOptions:
    """Options of re-ranking by spatial verification.

    Attributes:
        max_distance: Largest Hamming distance of a tentative correspondence, in bits (32 of 128 in the ILIAS
            paper; scale it with the number of bits).
        threshold: Largest distance of an inlier from where the model puts it, as a fraction of the longer
            side of the database image.
        min_inliers: Images with fewer inliers at distinct positions score 0 (5 in the paper).
        score: "significance" is -ln of the number of equally good models expected by chance, 0 where chance
            explains the inliers (`docs/rerank.md`); "inliers" is the number of inliers at distinct positions.
        geometry: Whether keypoint scale and angle make the hypotheses where both stores have them.
        hypotheses: "similarity" from keypoints or pairs, which finds most for its time; "translation" of each
            correspondence, as in the paper.
        model: The richest family of maps that is fitted: "translation", "similarity", "affine" or
            "homography" (from the affine map on, where chance explains its inliers less well: for flat things
            seen from near by; the models of the result are then [3, 3]).
        ratio: Keep a correspondence only if its distance is at most this times that of the second nearest
            descriptor; 1 keeps all.
        mutual: Keep a correspondence only if the query descriptor is also the database descriptor's nearest
            (False in the paper).
        query_descriptors: Use only the first so many descriptors of a query; None uses all.
        database_descriptors: The same for database images.

    Raises:
        ParameterError: A value is out of range.

    Examples:
        >>> SpatialOptions(model="homography").min_inliers, SpatialOptions.paper().score
        (5, 'inliers')
    """

    max_distance: int = 32
    threshold: float = 0.02
    min_inliers: int = 5
    score: Literal["significance", "inliers"] = "significance"
    geometry: bool = True
    hypotheses: Literal["similarity", "translation"] = "similarity"
    model: Literal["translation", "similarity", "affine", "homography"] = "affine"
    ratio: float = 1.0
    mutual: bool = True
    query_descriptors: int | None = None
    database_descriptors: int | None = None

    def __post_init__(self) -> None:
        expect(whole(self.max_distance, 0), "max_distance", "a whole number from 0", self.max_distance)
        expect(
            number(self.threshold) and self.threshold > 0,
            "threshold",
            "a number above 0 (a fraction of the longer side)",
            self.threshold,
        )
        expect(whole(self.min_inliers, 0), "min_inliers", "a whole number from 0", self.min_inliers)
        _arrays.choice("score", self.score, ("significance", "inliers"))
        expect(number(self.ratio) and 0 < self.ratio <= 1, "ratio", "a number above 0, at most 1", self.ratio)
        _arrays.choice("hypotheses", self.hypotheses, ("similarity", "translation"))
        _arrays.choice("model", self.model, ("translation", "similarity", "affine", "homography"))
        for name in ("geometry", "mutual"):
            expect(isinstance(getattr(self, name), bool), name, "True or False", getattr(self, name))
        check_descriptors(self.query_descriptors, self.database_descriptors)

    def to_dict(self) -> dict[str, object]:
        """Return the options as plain values, for provenance."""
        return asdict(self)

    @classmethod
    def paper(cls) -> SpatialOptions:
        """Return the protocol of the ILIAS paper (`dataclasses.replace` changes it).

        Every query descriptor's nearest within 32 bits, the translation of each as a hypothesis, an affine
        map as the final model, the number of inliers as the score, and none for fewer than 5.
        """
        return cls(hypotheses="translation", score="inliers", mutual=False)

    def core_fields(self) -> tuple[int, float, bool, float, int, str, bool, str, str]:
        """Return the fields in the order the core takes them."""
        distance = min(self.max_distance, 2**31)
        return (
            distance,
            self.ratio,
            self.mutual,
            self.threshold,
            self.min_inliers,
            self.score,
            self.geometry,
            self.hypotheses,
            self.model,
        )
