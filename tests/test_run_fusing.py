"""Runs fused into one, against the sum written out with dictionaries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilias_fast.errors import NonFiniteError, ParameterError, ShapeError
from ilias_fast.run import Run, fuse
from ilias_fast.search import Part, search, search_fused
from ilias_fast.store import GlobalStore
from tests.command_line import done, failing

Lists = dict[str, dict[str, float]]
QUERIES = ("a/query/0", "a/query/1", "b/query/0")

lists = st.fixed_dictionaries(
    {
        query: st.dictionaries(
            st.sampled_from([f"i{n}" for n in range(9)]), st.integers(-4, 4).map(float), max_size=7
        )
        for query in QUERIES
    }
)


def obvious(runs: list[Lists], weights: list[float], method: str, normalise: str, missing: str) -> Lists:
    fused: Lists = {}
    for query in runs[0]:
        tables = []
        for run in runs:
            ranked = sorted(run[query].items(), key=lambda entry: -entry[1])
            scores = np.array([score for _, score in ranked])
            if method == "ranks":
                scores = 1 / (61 + np.arange(len(ranked)))
            elif len(scores) and normalise == "minmax":
                scores = (scores - scores.min()) / (np.ptp(scores) or 1)
            elif len(scores) and normalise == "zscore":
                scores = (scores - scores.mean()) / (scores.std() or 1)
            tables.append({name: float(value) for (name, _), value in zip(ranked, scores, strict=True)})
        floors = [
            0.0 if method == "ranks" or missing == "zero" else min(table.values(), default=0.0)
            for table in tables
        ]
        names = dict.fromkeys(name for table in tables for name in table)
        fused[query] = {
            name: sum(
                weight * table.get(name, floor)
                for weight, table, floor in zip(weights, tables, floors, strict=True)
            )
            for name in names
        }
    return fused


@given(
    st.lists(lists, min_size=1, max_size=3),
    st.sampled_from(["scores", "ranks"]),
    st.sampled_from(["none", "minmax", "zscore"]),
    st.sampled_from(["least", "zero"]),
    st.data(),
)
def test_equals_the_sum_written_out(
    tables: list[Lists], method: str, normalise: str, missing: str, data: st.DataObject
) -> None:
    weights = data.draw(st.lists(st.sampled_from([0.25, 1.0, -2.0]), min_size=3, max_size=3))[: len(tables)]
    runs = [Run.from_dict(table) for table in tables]
    fused = fuse(runs, weights, method=method, normalise=normalise, missing=missing)  # type: ignore[arg-type]
    expected = obvious(tables, weights, method, normalise, missing)
    assert fused.query_ids == tuple(tables[0])
    for query in QUERIES:
        found = dict(zip(fused[query].ids, fused[query].scores.tolist(), strict=True))
        assert found == pytest.approx(expected[query], abs=1e-12)
    assert fuse(runs, weights, method=method, k=2) == fuse(runs, weights, method=method).truncate(2)  # type: ignore[arg-type]


def test_equal_scores_keep_the_order_of_the_first_run() -> None:
    first = Run.from_dict({"q": {"x": 1.0, "y": 1.0}})
    second = Run.from_dict({"q": {"z": 1.0, "y": 1.0, "x": 1.0}})
    assert fuse([first, second])["q"].ids == ["x", "y", "z"]
    assert fuse([second, first])["q"].ids == ["z", "y", "x"]
    assert fuse([first]) == first


def test_whole_lists_fuse_as_one_search(tmp_path: Path, rng: np.random.Generator) -> None:
    stores = []
    for name, ids in (
        ("q", [f"o{n}/query/Q{n}.jpg" for n in (0, 0.5, 1)]),
        ("t", ["o0/query/T.txt", "o1/query/T.txt", "o0.5/query/T.txt"]),
        ("d", [f"d{n}" for n in range(50)]),
    ):
        with GlobalStore.create(tmp_path / name, dim=8, provenance={"model": "m"}) as writer:
            writer.append(ids, rng.standard_normal((len(ids), 8)).astype(np.float32))
        stores.append(GlobalStore.open(tmp_path / name))
    queries, texts, database = stores
    fused = fuse([search(queries, database, 50), search(texts, database, 50)], [0.5, 0.5])
    once = search_fused([Part(queries, database, 0.5), Part(texts, database, 0.5)], 50)
    for query in once:
        assert fused[query].ids == once[query].ids
        assert fused[query].scores == pytest.approx(once[query].scores, abs=1e-5)


def test_huge_scores_are_normalised_without_an_infinity() -> None:
    run = Run.from_dict({"q": {"x": 1.7e308, "y": 0.0, "z": -1.7e308}, "r": {"x": 5.0}, "s": {}})
    assert fuse([run], normalise="minmax")["q"].scores.tolist() == [1, 0.5, 0]
    assert fuse([run], normalise="zscore")["q"].scores == pytest.approx([1.5**0.5, 0, -(1.5**0.5)])
    for how in ("minmax", "zscore"):
        assert fuse([run], normalise=how)["r"].scores.tolist() == [0]  # type: ignore[arg-type]
    with pytest.raises(NonFiniteError, match="query 'q', database id 'x'"):
        fuse([run, run], [1.0, 1.0])


def test_bad_input_is_named() -> None:
    image = Run.from_dict({"a/query/Q": {"x": 1.0}})
    for runs, keywords, message in (
        ([], {}, "at least one run"),
        ([image], {"weights": [1, 2]}, "expected 1, one a run, found 2"),
        ([image], {"method": "sum"}, "method: expected 'scores' or 'ranks'"),
        ([image], {"normalise": "max"}, "normalise: expected"),
        ([image], {"missing": "none"}, "missing: expected"),
        ([image], {"k": 0}, "k: expected"),
    ):
        with pytest.raises(ParameterError, match=message):
            fuse(runs, **keywords)  # type: ignore[arg-type]
    with pytest.raises(NonFiniteError, match="weights"):
        fuse([image], [float("nan")])
    for others in (("b/query/T",), ("a/query/T", "a/query/U")):
        text = Run.from_dict({query: {"x": 1.0} for query in others})
        with pytest.raises(ShapeError, match=r"query 'a/query/Q' meets . queries of run 1"):
            fuse([image, text])


def test_the_command(tmp_path: Path) -> None:
    a, b, out = tmp_path / "a.json", tmp_path / "b.trec", tmp_path / "out.npz"
    image = Run.from_dict({"o/query/Q0": {"x": 1.0, "y": 0.5}, "o/query/Q1": {"y": 1.0}})
    text = Run.from_dict({"o/query/T": {"y": 0.9, "z": 0.1}})
    image.save(a)
    text.save(b)
    assert done("fuse", a, b, "-o", out, "--weight", 3, "--weight", 1) == f"2 queries, 5 results: {out}\n"
    assert Run.load(out) == fuse([image, text], [3, 1])
    done("fuse", a, a, "-o", out, "--method", "ranks", "-k", 1)
    assert Run.load(out) == fuse([image, image], method="ranks", k=1)
    assert Run.load(out).provenance["by"] == "ranks"
    assert "expected 2, one a run, found 1" in failing("fuse", a, b, "-o", out, "--weight", 1, code=2)
    assert "meets 2 queries of run 1" in failing("fuse", b, a, "-o", out)
    assert "nan" in failing("fuse", a, "-o", out, "--weight", "nan")
    assert "cannot read" in failing("fuse", a, tmp_path / "none.json", "-o", out)
