"""k-reciprocal and diffusion re-ranking equal their slow versions, and find what the search missed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilias_fast.errors import IncompatibleStoreError, ParameterError
from ilias_fast.rerank import DiffusionOptions, KReciprocalOptions, ensemble, rerank
from ilias_fast.rerank.neighbours import diffusion, k_reciprocal
from ilias_fast.run import Run
from ilias_fast.search import search
from ilias_fast.store import GlobalStore
from tests.oracles import neighbours as oracle


def similarities(seed: int, n: int, dim: int, groups: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = (
        rng.standard_normal((n, dim)) + 2 * rng.standard_normal((groups, dim))[rng.integers(groups, size=n)]
    )
    vectors[n // 2] = vectors[n // 3]  # a tie
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


@given(st.integers(0, 1000), st.integers(2, 24), st.integers(1, 8), st.integers(1, 4))
def test_k_reciprocal(seed: int, n: int, k1: int, k2: int) -> None:
    table = similarities(seed, n, 5, 3)
    np.testing.assert_allclose(k_reciprocal(table, k1, k2), oracle.k_reciprocal(table, k1, k2), atol=1e-12)


@given(st.integers(0, 1000), st.integers(2, 24), st.integers(1, 8))
def test_diffusion(seed: int, n: int, k: int) -> None:
    table = similarities(seed, n, 5, 3)
    np.testing.assert_allclose(
        diffusion(table, k, 0.9, 3.0), oracle.diffusion(table, k, 0.9, 3.0), atol=1e-12
    )


def chain(folder: Path, links: int) -> tuple[GlobalStore, GlobalStore, Run]:
    """Images along an arc: each looks like the next, the last unlike the query; and distractors nearer."""
    angles = np.linspace(0, 1.4, links + 1)[1:]
    arc = np.stack([np.cos(angles), np.sin(angles), np.zeros(links)], 1)
    rng = np.random.default_rng(0)
    away = rng.uniform(0.9, 1.3, 30)
    turn = rng.uniform(-2.5, -0.6, 30)
    off = np.stack([np.cos(away), np.sin(away) * np.cos(turn), np.sin(away) * np.sin(turn)], 1)
    for name, vectors in (("q", np.array([[1.0, 0, 0]])), ("db", np.concatenate([arc, off]))):
        with GlobalStore.create(folder / name, dim=3) as writer:
            writer.append([f"{name}{row}" for row in range(len(vectors))], vectors.astype(np.float16))
    queries, database = GlobalStore.open(folder / "q"), GlobalStore.open(folder / "db")
    return queries, database, search(queries, database, 1000)


@pytest.mark.parametrize("options", [DiffusionOptions(k=4), KReciprocalOptions(k1=6, k2=3)])
def test_follows_a_chain_of_views(tmp_path: Path, options: DiffusionOptions | KReciprocalOptions) -> None:
    queries, database, run = chain(tmp_path, 15)
    method = "diffusion" if isinstance(options, DiffusionOptions) else "k-reciprocal"
    local = rerank(run, queries, database, method=method, options=options)
    again = rerank(run, queries, database, method=method, options=options, threads=1)
    np.testing.assert_array_equal(local.scores, again.scores)
    links = {f"db{row}" for row in range(15)}
    before = sum(name in links for name in run["q0"].ids[:15])
    after = sum(name in links for name in ensemble(run, local)["q0"].ids[:15])
    assert after >= before
    if method == "diffusion":
        assert before < after == 15


def test_only_the_shortlist_is_scored(tmp_path: Path) -> None:
    queries, database, run = chain(tmp_path, 15)
    local = rerank(run, queries, database, method="diffusion", shortlist=10)
    assert np.isfinite(local.scores).sum() == 10
    assert ensemble(run, local)["q0"].ids[10:] == run["q0"].ids[10:]


def test_bad_input(tmp_path: Path) -> None:
    queries, database, run = chain(tmp_path, 3)
    with pytest.raises(IncompatibleStoreError, match="expected a LocalStore, found GlobalStore"):
        rerank(run, queries, database, method="spatial")
    with pytest.raises(ParameterError, match="alpha"):
        DiffusionOptions(alpha=1.0)
    with pytest.raises(ParameterError, match="k1"):
        KReciprocalOptions(k1=0)
    with pytest.raises(ParameterError, match="did you mean 'k-reciprocal'"):
        rerank(run, queries, database, method="k-reciprocol")  # type: ignore[arg-type]
