"""What notebooks show: escaped, complete, well-formed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.evaluate import compare, evaluate
from ilias_fast.run import Run
from ilias_fast.store import BinaryStore, GlobalStore, LocalStore
from tests.test_evaluate import IMAGE, TEXT, make_dataset


def words(html: str) -> str:
    """Return the text of well-formed HTML."""
    return " ".join(ElementTree.fromstring(f"<div>{html}</div>").itertext())


def test_a_run() -> None:
    hostile = "<script>alert(1)</script>"
    run = Run.from_dict({hostile: {"a&b": 0.5}, "q": {}}, {"method": hostile})
    html = run._repr_html_()
    assert "<script>" not in html
    assert "a&b" in words(html)
    assert "0 to 1" in words(html)
    assert "none" in words(Run.from_dict({})._repr_html_())


def test_an_evaluation_and_a_comparison() -> None:
    dataset = make_dataset()
    evaluation = evaluate(Run.from_dict({**IMAGE, **TEXT}), dataset)
    shown = words(evaluation._repr_html_())
    assert "mAP@1000" in shown
    assert "text queries by categories" in shown
    image = evaluate(Run.from_dict(IMAGE), dataset)
    both = words(compare({"a": image, "b<": image}, samples=20)._repr_html_())
    assert "a → b<" in both
    assert "95% interval" in both


def test_stores(tmp_path: Path) -> None:
    hostile = "<b>&.jpg"
    with GlobalStore.create(
        tmp_path / "g", dim=4, provenance={"model": "<i>vlad</i>", "steps": [1, 2]}
    ) as writer:
        writer.append([hostile, "second"], np.ones((2, 4), np.float32))
    html = GlobalStore.open(tmp_path / "g")._repr_html_()
    assert "<b>" not in html
    for text in ("Global store", "dimension 4", hostile, "<i>vlad</i>", "[1, 2]", "1 second"):
        assert text in " ".join(words(html).split()), text
    with BinaryStore.create(tmp_path / "b", bits=16) as writer:
        writer.commit()
    shown = words(BinaryStore.open(tmp_path / "b")._repr_html_())
    assert "Binary store" in shown
    assert "First images" not in shown
    with LocalStore.create(tmp_path / "l", bits=8) as writer:
        writer.append_arrays(
            ["one"], [0, 3], codes=np.zeros((3, 1), np.uint8), xy=np.zeros((3, 2), np.float32), size=[[8, 8]]
        )
    assert "descriptors an image 3.00" in words(LocalStore.open(tmp_path / "l")._repr_html_())


def test_a_report(rng: np.random.Generator) -> None:
    pytest.importorskip("PIL.Image", reason="needs the extra [report]")
    from tests.report_samples import make_data

    shown = words(make_data(rng)._repr_html_())
    for text in (
        "A <report> & its title",
        "Method cs",
        "6 queries, 1,234 distractors",
        "One image was skipped.",
    ):
        assert text in shown, text
