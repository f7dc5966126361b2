"""Runs: what a search, a re-ranking or anybody else's code answered, and what the evaluation reads.

| module | holds |
|---|---|
| `base` | `Run` and `RunResult` |
| `checks` | what must hold of its arrays |
| `official` | the official similarity JSON and pickle |
| `unpickle` | the restricted reader behind the pickle |
| `compact` | the npz format of this package |
| `files` | atomic writing and errors that name the file |
"""

from ilias_fast.run.base import Run, RunResult

__all__ = ["Run", "RunResult"]
