"""Runs: what a search, a re-ranking or anybody else's code answered, and what the evaluation reads.

| module | holds |
|---|---|
| `base` | `Run` and `RunResult` |
| `checks` | what must hold of its arrays |
| `official` | the official similarity JSON and pickle, TREC run files |
| `unpickle` | the restricted reader behind the pickle |
| `ames` | the nearest-neighbour pickle of AMES |
| `fusing` | several runs as one |
| `compact`, `parquet` | the npz format of this package; tables |
| `notebook` | a run as HTML |
"""

from collections.abc import Sequence

from ilias_fast._core import Ids
from ilias_fast.run.ames import read_ames_list, read_ames_neighbours
from ilias_fast.run.base import Run, RunResult
from ilias_fast.run.fusing import fuse
from ilias_fast.run.unpickle import unpickle

Sequence.register(Ids)

__all__ = [
    "Ids",
    "Run",
    "RunResult",
    "fuse",
    "read_ames_list",
    "read_ames_neighbours",
    "unpickle",
]
