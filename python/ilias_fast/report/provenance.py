"""Provenance as the page lists it: sections of keys and what was recorded of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union

__all__ = ["Recorded", "provenance_sections"]

Recorded: TypeAlias = Union[str, "Sequence[tuple[str, Recorded]]"]
"""Text, or keys and what was recorded of each."""


def provenance_sections(provenance: Mapping[str, object]) -> list[tuple[str, list[tuple[str, Recorded]]]]:
    """Arrange provenance as sections of keys; keys outside a section come first, under ""."""
    loose = [
        (str(key), _recorded(value)) for key, value in provenance.items() if not isinstance(value, Mapping)
    ]
    sections = [
        (str(name), [(str(key), _recorded(value)) for key, value in section.items()])
        for name, section in provenance.items()
        if isinstance(section, Mapping)
    ]
    return ([("", loose)] if loose else []) + [section for section in sections if section[1]]


def _recorded(value: object) -> Recorded:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return [(str(key), _recorded(item)) for key, item in value.items()] or "–"
    if isinstance(value, (list, tuple, set, frozenset)):
        if any(isinstance(item, Mapping) for item in value):
            return [(str(number), _recorded(item)) for number, item in enumerate(value, 1)]
        return ", ".join(str(_recorded(item)) for item in value)
    return str(value)
