"""Provenance as the page lists it: sections of keys and text."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["provenance_sections"]


def provenance_sections(provenance: Mapping[str, object]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Arrange provenance as sections of key and text; keys outside a section come first, under ""."""
    loose = [(str(key), _text(value)) for key, value in provenance.items() if not isinstance(value, Mapping)]
    sections = [
        (str(name), [(str(key), _text(value)) for key, value in section.items()])
        for name, section in provenance.items()
        if isinstance(section, Mapping)
    ]
    return ([("", loose)] if loose else []) + [section for section in sections if section[1]]


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_text(item) for item in value)
    return str(value)
