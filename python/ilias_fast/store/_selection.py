"""Which images a selection of distractors keeps: one rule for imports and searches."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["is_selected"]


def is_selected(name: str, selected: Collection[str]) -> bool:
    """Return whether an id survives a selection of distractors (mini-ILIAS).

    Positives (`<instance>/pos/<name>`) always do, as in the official search: the database of mini-ILIAS is
    all positives and the listed distractors. Any other id does if its second "/"-component, or the whole of
    it, is in `selected`.

    Args:
        name: The id.
        selected: What is selected: second components, or whole ids.

    Examples:
        >>> selected = {"17"}
        >>> [is_selected(name, selected) for name in ("0.tar/17", "0.tar/18", "mug/pos/0.jpg")]
        [True, False, True]
    """
    if name in selected:
        return True
    parts = name.split("/", 2)
    return len(parts) > 1 and (parts[1] in selected or (parts[1] == "pos" and len(parts) > 2))
