"""Streaming mAP: what is counted while scores go by, and the average precision the counts amount to.

AP@k depends on a ranking only through how many results stand above each positive. So the scores of the
positives are fixed first, and of a stream of distractor scores only counts are kept, for every prefix of the
stream and every random subset asked for: memory is O(positives x (prefixes + subsets)), no ranking exists.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast._files import StrPath, read_bytes, written
from ilias_fast.errors import FileFormatError, NonFiniteError, ParameterError, ShapeError

__all__ = ["MapCounter", "StreamedMap"]

_VERSION = 2


class StreamedMap(NamedTuple):
    """mAP@k of every prefix and every subset of a stream of distractors; in [0, 1].

    Attributes:
        prefixes: int64 [m], numbers of distractors.
        prefix_aps: float64 [m, Q].
        subset_aps: float64 [s, Q], of each random subset of the whole stream.

    Examples:
        >>> import numpy as np
        >>> StreamedMap(np.array([0]), np.array([[1.0, 0.5]]), np.empty((0, 2))).prefix_map.tolist()
        [0.75]
    """

    prefixes: NDArray[np.int64]
    prefix_aps: NDArray[np.float64]
    subset_aps: NDArray[np.float64]

    @property
    def prefix_map(self) -> NDArray[np.float64]:
        """float64 [m]: mAP@k of each prefix."""
        return np.asarray(self.prefix_aps.mean(axis=1))

    @property
    def subset_map(self) -> NDArray[np.float64]:
        """float64 [s]: mAP@k of each subset."""
        return np.asarray(self.subset_aps.mean(axis=1))


class MapCounter:
    """Counts the distractors that score above each positive; mergeable, resumable, exact.

    Distractors are numbered 0, 1, 2, ... in the order of the database. Blocks of them may come in any order
    and on any machine, each number once. Blocks of equal scores are pooled as in `average_precision`; where
    one straddles the cut at k, lower positions come first, the positives in front of all
    distractors (the order of an ILIAS database).

    Args:
        positive_scores: For each query, float32 [p], the scores of its positives, finite; may be empty.
        prefixes: Numbers of distractors to evaluate at; 0 is no distractor at all.
        subsets: Number of random subsets, whose members each `add` is told.
        about: What else has to agree where counts are merged, such as the seed of the subsets.

    Raises:
        NonFiniteError: A score is NaN or infinite.
        ParameterError: A prefix or the number of subsets is negative.
        ShapeError: The scores of a query are no vector.

    Examples:
        >>> import numpy as np
        >>> counter = MapCounter([[0.9, 0.8]], prefixes=[2])
        >>> counter.add(np.array([[0.95, 0.7]], np.float32), 0)
        >>> counter.result(1000).prefix_map.round(3).tolist()
        [0.583]
    """

    def __init__(
        self,
        positive_scores: Sequence[ArrayLike],
        *,
        prefixes: Sequence[int] = (),
        subsets: int = 0,
        about: str = "",
    ) -> None:
        own = [
            _arrays.vector(f"positive_scores[{query}]", values, "fiu", np.float32, "p")
            for query, values in enumerate(positive_scores)
        ]
        for query, values in enumerate(own):
            if not np.isfinite(values).all():
                raise NonFiniteError(f"positive_scores[{query}]: all scores must be finite, found {values}")
        self._offsets = np.cumsum([0, *map(len, own)], dtype=np.int64)
        self._scores = np.concatenate([np.empty(0, np.float32), *(np.sort(values)[::-1] for values in own)])
        self._prefixes = np.unique([_arrays.at_least("prefixes", size, 0) for size in prefixes]).astype(
            np.int64
        )
        self._subsets = _arrays.at_least("subsets", subsets, 0)
        # Rows: the stream between two prefixes, the stream beyond the last, then the subsets.
        shape = (len(self._prefixes) + 1 + self._subsets, len(self._scores))
        self._above, self._tied = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        # What is in every prefix and subset, whoever counts which distractors.
        self._always = np.zeros((2, len(self._scores)), np.int64)
        self._about = str(about)
        self._covered: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self._offsets) - 1

    def __repr__(self) -> str:
        seen = sum(stop - start for start, stop in self._covered)
        return f"MapCounter({len(self)} queries, {len(self._scores)} positives, {seen} distractors seen)"

    @property
    def covered(self) -> tuple[tuple[int, int], ...]:
        """Ranges `[start, stop)` of distractors that were counted, ascending."""
        return tuple(self._covered)

    @property
    def resume_at(self) -> int:
        """The first distractor that was not counted yet."""
        return self._covered[0][1] if self._covered and self._covered[0][0] == 0 else 0

    def counted_from(self, first: int) -> int:
        """Return the first distractor from `first` on that was not counted yet.

        Args:
            first: The number of a distractor.

        Raises:
            ParameterError: It is negative.
        """
        first = _arrays.at_least("first", first, 0)
        return next((stop for start, stop in self._covered if start <= first < stop), first)

    def positive_scores(self, query: int) -> NDArray[np.float32]:
        """Return the scores of a query's positives, descending.

        Args:
            query: Its position, from 0.

        Raises:
            ParameterError: There is no such query.
        """
        position = _arrays.at_least("query", query, 0)
        if position >= len(self):
            raise ParameterError(f"query: expected a position below {len(self)}, found {position}")
        return self._scores[self._offsets[position] : self._offsets[position + 1]]

    def add(
        self,
        scores: ArrayLike,
        first: int,
        *,
        members: ArrayLike | None = None,
        threads: int | None = None,
    ) -> None:
        """Count a block of distractors; all of it or, if something is wrong, none.

        Args:
            scores: float32 [Q, n], finite; of every query with distractors `first` to `first + n - 1`.
            first: Number of the first distractor.
            members: bool [subsets, n], which distractors belong to each subset; needed if there are subsets.
            threads: Number of threads; None for all cores.

        Raises:
            ShapeError: The shapes do not fit.
            NonFiniteError: A score is NaN or infinite.
            ParameterError: Some of these distractors were counted already.
        """
        values = _arrays.float32_rows("scores", scores, "Q, n")
        self._count(values, first, members, threads, self._scores, self._scores, None)

    def add_approximate(
        self,
        scores: NDArray[np.float32],
        first: int,
        margin: NDArray[np.float64],
        exact: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]],
        *,
        members: ArrayLike | None = None,
        threads: int | None = None,
    ) -> None:
        """Count a block whose scores are known up to a bound; those too close to tell are asked for.

        Args:
            scores: float32 [Q, n], finite.
            first: Number of the first distractor.
            margin: float64 [Q], bound on the error of each query's scores.
            exact: Given (queries, columns), int64 [t] each, ascending, returns the exact scores, float32 [t].
            members: See `add`.
            threads: Number of threads; None for all cores.

        Raises:
            ShapeError, NonFiniteError, ParameterError: See `add`.
        """
        values = _arrays.float32_rows("scores", scores, "Q, n")
        bounds = _arrays.vector("margin", margin, "f", np.float64, "Q")
        if len(bounds) != len(self):
            raise ShapeError(f"margin: expected [{len(self)}], one bound a query, found [{len(bounds)}]")
        reach = np.repeat(bounds, np.diff(self._offsets))
        wide = self._scores.astype(np.float64)
        low = np.nextafter((wide - reach).astype(np.float32), np.float32(-np.inf))
        high = np.nextafter((wide + reach).astype(np.float32), np.float32(np.inf))
        self._count(values, first, members, threads, low, high, exact)

    def _count(
        self,
        values: NDArray[np.float32],
        first: int,
        members: ArrayLike | None,
        threads: int | None,
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        settle: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]] | None,
    ) -> None:
        """Count a block; what lies from `low` to `high` is a tie, or `settle` tells its exact score."""
        first, width = _arrays.at_least("first", first, 0), values.shape[1]
        if len(values) != len(self):
            raise ShapeError(
                f"scores: expected [{len(self)}, n], one row a query, found {list(values.shape)}"
            )
        inside = (
            np.zeros((0, width), np.bool_)
            if members is None
            else _arrays.any_array("members", members, "subsets, n")
        )
        if inside.dtype != np.bool_ or inside.shape != (self._subsets, width):
            raise ShapeError(
                f"members: expected bool [{self._subsets}, {width}], "
                f"found {inside.dtype} {list(inside.shape)}"
            )
        covered = self._joined([*self._covered, *([(first, first + width)] if width else [])])
        threads = _arrays.threads(threads)
        above, tied = self._above.copy(), self._tied.copy()
        cuts = [0, *np.clip(self._prefixes - first, 0, width).tolist(), width]
        jobs: list[tuple[int, int, int, NDArray[np.int64] | None]] = [
            (segment, start, stop, None)
            for segment, (start, stop) in enumerate(pairwise(cuts))
            if start < stop
        ]
        jobs += [
            (len(self._prefixes) + 1 + subset, 0, width, np.flatnonzero(row))
            for subset, row in enumerate(inside)
        ]
        for row, start, stop, columns in jobs:
            found, near, queries, close = _core.count_above(
                values, self._offsets, low, high, start, stop, columns, threads
            )
            above[row] += found
            if settle is None:
                tied[row] += near
            elif len(queries):
                exact = settle(queries, close)
                self._settle(above[row], tied[row], queries, exact, values[queries, close], high)
        self._above, self._tied, self._covered = above, tied, covered

    def _settle(
        self,
        above: NDArray[np.int64],
        tied: NDArray[np.int64],
        queries: NDArray[np.int64],
        exact: NDArray[np.float32],
        approximate: NDArray[np.float32],
        high: NDArray[np.float32],
    ) -> None:
        """Count the scores that were close to a limit by their exact values."""
        sizes = np.diff(self._offsets)[queries]
        owner = np.repeat(np.arange(len(queries)), sizes)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        limit = within + self._offsets[queries][owner]
        counted = approximate[owner] > high[limit]
        np.add.at(above, limit, (exact[owner] > self._scores[limit]).astype(np.int64) - counted)
        np.add.at(tied, limit, (exact[owner] == self._scores[limit]).astype(np.int64))

    def add_always(
        self, scores: ArrayLike, *, own: ArrayLike | None = None, threads: int | None = None
    ) -> None:
        """Count images that are in every prefix and subset: the positives of other queries. Not numbered.

        Args:
            scores: float32 [Q, n], finite.
            own: bool [Q, n], which of the images are positives of the query itself; these are not counted.
            threads: Number of threads; None for all cores.

        Raises:
            ShapeError: The shapes do not fit.
            NonFiniteError: A score is NaN or infinite.
        """
        values = _arrays.float32_rows("scores", scores, "Q, n")
        mine = np.zeros(values.shape, np.bool_) if own is None else _arrays.any_array("own", own, "Q, n")
        if len(values) != len(self) or mine.shape != values.shape or mine.dtype != np.bool_:
            raise ShapeError(
                f"scores, own: expected float32 and bool [{len(self)}, n], found {list(values.shape)} and "
                f"{mine.dtype} {list(mine.shape)}"
            )
        # The lowest number is above nothing; where it is a limit, it ties with what is not counted.
        lowest = np.finfo(np.float32).min
        masked = np.where(mine, lowest, values)
        found, tied, _, _ = _core.count_above(
            masked,
            self._offsets,
            self._scores,
            self._scores,
            0,
            masked.shape[1],
            None,
            _arrays.threads(threads),
        )
        left_out = np.repeat(mine.sum(axis=1), np.diff(self._offsets))
        tied = np.where(self._scores == lowest, tied - left_out, tied)
        self._always += np.stack([found, tied])

    @staticmethod
    def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(ranges):
            if joined and start < joined[-1][1]:
                raise ParameterError(
                    f"first: distractors {start} to {min(stop, joined[-1][1]) - 1} were counted already; "
                    f"each counts once (resume at {joined[0][1]})"
                )
            if joined and start == joined[-1][1]:
                joined[-1] = joined[-1][0], stop
            else:
                joined.append((start, stop))
        return joined

    def is_like(self, other: MapCounter) -> bool:
        """Return whether another counter has the same positives, prefixes, number of subsets and `about`.

        Args:
            other: The counter.
        """
        return (
            np.array_equal(self._offsets, other._offsets)
            and np.array_equal(self._scores, other._scores)
            and np.array_equal(self._prefixes, other._prefixes)
            and self._subsets == other._subsets
            and self._about == other._about
        )

    def merge(self, other: MapCounter) -> None:
        """Take over what another counter counted elsewhere.

        What `add_always` counted is the same everywhere: it is taken once, from whoever counted it.

        Args:
            other: A counter of the same positives, prefixes and number of subsets.

        Raises:
            ParameterError: It is of something else, or both counted the same distractors.
        """
        if not self.is_like(other):
            raise ParameterError(
                "other: expected a counter of the same positive scores, prefixes and number of subsets"
                f" ({self._about or 'no more'}), found another ({other._about or 'no more'})"
            )
        if self._always.any() and other._always.any() and not np.array_equal(self._always, other._always):
            raise ParameterError("other: expected the same images in every prefix (`add_always`)")
        self._covered = self._joined([*self._covered, *other._covered])
        self._above = self._above + other._above
        self._tied = self._tied + other._tied
        self._always = np.maximum(self._always, other._always)

    def result(self, k: int = 1000) -> StreamedMap:
        """Return AP@k of every query in every prefix and subset.

        Args:
            k: The cut, at least 1; any number of cuts can be asked of the same counts.

        Raises:
            ParameterError: k is below 1; a prefix reaches beyond what was counted; or the stream has a gap.
        """
        k = _arrays.at_least_one("k", k)
        if len(self._covered) > 1 or (self._covered and self._covered[0][0]):
            raise ParameterError(
                f"the distractors counted have a gap: {self._covered}; add or merge the rest"
            )
        seen = self.resume_at
        if len(self._prefixes) and self._prefixes[-1] > seen:
            raise ParameterError(f"prefixes: {self._prefixes[-1]} distractors asked for, {seen} counted")
        m = len(self._prefixes)
        rows = [*range(m), *range(m + 1, m + 1 + self._subsets)]
        above = np.concatenate([np.cumsum(self._above[:m], axis=0), self._above[m + 1 :]])
        tied = np.concatenate([np.cumsum(self._tied[:m], axis=0), self._tied[m + 1 :]])
        above += self._always[0]
        tied += self._always[1]
        aps = np.zeros((len(rows), len(self)))
        for query, (start, stop) in enumerate(pairwise(self._offsets.tolist())):
            if stop > start:
                own = slice(start, stop)
                aps[:, query] = _average_precision(self._scores[own], above[:, own], tied[:, own], k)
        return StreamedMap(self._prefixes.copy(), aps[:m], aps[m:])

    def save(self, path: StrPath) -> None:
        """Write the counts, atomically, to go on another time or on another machine.

        Args:
            path: An `.npz`.

        Raises:
            StorageError: The file cannot be written.
        """
        with written(Path(path)) as file:
            np.savez(
                file,
                version=np.int64(_VERSION),
                offsets=self._offsets,
                scores=self._scores,
                prefixes=self._prefixes,
                subsets=np.int64(self._subsets),
                above=self._above,
                tied=self._tied,
                always=self._always,
                about=np.frombuffer(self._about.encode(), np.uint8),
                covered=np.array(self._covered, np.int64).reshape(-1, 2),
            )

    @classmethod
    def load(cls, path: StrPath) -> MapCounter:
        """Read what `save` wrote.

        Args:
            path: The file.

        Raises:
            FileFormatError: It is damaged, or something else.
            StorageError: It cannot be read.
        """
        path = Path(path)
        data = read_bytes(path)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                if archive["version"] != _VERSION:
                    raise ValueError(f"expected version {_VERSION}, found {archive['version']}")
                offsets = _arrays.offsets("offsets", archive["offsets"])
                scores = archive["scores"]
                if (
                    len(offsets) == 0
                    or offsets[0]
                    or (np.diff(offsets) < 0).any()
                    or offsets[-1] != len(scores)
                ):
                    raise ValueError("offsets that do not fit the scores")
                counter = cls(
                    [scores[start:stop] for start, stop in pairwise(offsets.tolist())],
                    prefixes=archive["prefixes"].tolist(),
                    subsets=int(archive["subsets"]),
                    about=archive["about"].tobytes().decode(),
                )
                counter._covered = cls._joined(
                    [(int(start), int(stop)) for start, stop in archive["covered"]]
                )
                for name in ("above", "tied", "always"):
                    counts = archive[name]
                    there: NDArray[np.int64] = getattr(counter, f"_{name}")
                    if counts.shape != there.shape or counts.dtype != np.int64 or (counts < 0).any():
                        raise ValueError(f"{name}: expected int64 {list(there.shape)} of counts")
                    setattr(counter, f"_{name}", counts)
        # Damaged archives fail as zip, zlib, header, text and memory errors: there is no shorter list.
        except Exception as cause:
            raise FileFormatError(f"{path}: not a file of counts: {cause or type(cause).__name__}") from cause
        return counter


def _average_precision(
    scores: NDArray[np.float32], above: NDArray[np.int64], tied: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """Return AP@k from descending scores of positives and, per sample, the distractors above and tied."""
    total = np.zeros(len(above))
    found = np.zeros(len(above), np.int64)
    starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    for begin, end in pairwise([*starts.tolist(), len(scores)]):
        # A block of equal scores: before it stand `begin` positives and the distractors above it.
        before = begin + above[:, begin]
        inside = np.clip(k - before, 0, end - begin)
        found += inside
        length = np.maximum(np.minimum(k, before + (end - begin) + tied[:, begin]), 1)
        total += inside * found / length
    return total / min(k, len(scores))
