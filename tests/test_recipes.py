"""The recipes give the answers of what they replace."""

from __future__ import annotations

import importlib

import pytest

RECIPES = {
    "flat_index": (3000, "faiss"),
    "hloc_pairs": (16, "torch"),
    "late_interaction": (60, "torch"),
    "orb": (8, "cv2"),
    "evaluation": (12, "numpy"),  # against the definition: compiling ranx takes longer than all other tests
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*segment_reduce.*:UserWarning")
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_recipe_agrees_with_what_it_replaces(name: str, seed: int) -> None:
    size, library = RECIPES[name]
    pytest.importorskip(library, reason=f"the recipe replaces {library}")
    recipe = importlib.import_module(f"examples.recipes.{name}")
    data = recipe.make_data(size, seed)
    theirs = by_definition(**data) if name == "evaluation" else recipe.run_before(data)
    assert recipe.check(theirs, recipe.run_after(data), data)


def by_definition(qrels: dict[str, dict[str, int]], run: dict[str, dict[str, float]]) -> float:
    aps = []
    for query, relevant in qrels.items():
        hits, total = 0, 0.0
        for rank, image in enumerate(sorted(run[query], key=lambda one: -run[query][one]), start=1):
            if image in relevant:
                hits += 1
                total += hits / rank
        aps.append(total / len(relevant))
    return sum(aps) / len(aps)
