"""What notebooks show: escaped, complete, well-formed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from ilias_fast.evaluate import compare, evaluate
from ilias_fast.run import Run
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
