"""The card of a store: what it holds, where it came from, and how it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ilias_fast.cli._console import out, plain, print_json

if TYPE_CHECKING:
    from ilias_fast.store import BinaryStore, GlobalStore, LocalStore

__all__ = ["card", "facts", "tell"]

_DIGITS = 12


def facts(store: GlobalStore | BinaryStore | LocalStore) -> dict[str, Any]:
    """Return what a store is, for JSON: the fields of `StoreInfo`."""
    info = store.info()
    return {**asdict(info), "derived": [one._asdict() for one in info.derived]}


def tell(store: GlobalStore | BinaryStore | LocalStore, as_json: bool) -> None:
    """Print what a command made of a store: its card, or its facts as JSON."""
    if as_json:
        print_json(facts(store))
    else:
        card(store)


def card(store: GlobalStore | BinaryStore | LocalStore, *, health: bool = False) -> None:
    """Print what a store holds and where it came from; with `health` also its files at a glance."""
    found = store.info()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = [
        ("path", str(found.path)),
        ("kind", found.kind),
        ("rows", f"{found.rows:,}"),
        *([("deleted", f"{found.deleted:,} rows, until compacted")] if found.deleted else []),
        ("dim", f"{found.dim:,}") if found.dim else ("bits", f"{found.bits:,}"),
        *([("descriptors", f"{found.descriptors:,}")] if found.kind == "local" else []),
        ("shards", f"{found.shards:,}"),
        ("bytes", f"{found.bytes:,}"),
        *(
            (one.kind, f"{one.shards:,} of {found.shards:,} shards, {one.bytes:,} bytes")
            for one in found.derived
        ),
        ("state", found.checksum),
    ]
    rows += [(key, _value(key, value)) for key, value in found.provenance.items()]
    if found.parent is not None:
        rows.append(("derived from", str(found.parent["path"])))
        rows.append(("by", _brief(found.parent["parameters"])))
    if health:
        report = store.verify(quick=True)
        faults = [str(damage) for damage in report.damages]
        faults += [f"{name} is left over (store gc removes it)" for name in report.leftovers]
        rows.append(("health", "; ".join(faults) or "files whole at a glance (store verify reads them)"))
    for name, value in rows:
        table.add_row(f"[bold]{plain(name)}", plain(value))
    out.print(table)


def _value(key: str, value: Any) -> str:
    """Return what provenance says, for people: the manifest has all of it."""
    if isinstance(value, str):
        return value
    try:
        if key == "import":
            return _import(value)
        if key == "adaptation":
            return ", then ".join(map(_brief, value))
    except (TypeError, KeyError, ValueError, IndexError, AttributeError):
        pass  # somebody else's provenance
    return json.dumps(value, ensure_ascii=False)


def _import(record: dict[str, Any]) -> str:
    files = record["files"]
    names = [entry["name"] for entry in files]
    shown = ", ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]} ({len(names):,} files)"
    read, rows = sum(entry["read"] for entry in files), sum(entry["rows"] for entry in files)
    kept = sum(entry["selected"] for entry in files)
    dtypes = ", ".join(sorted({str(entry["dtype"]) for entry in files}))
    said = f"{record['format']} ({dtypes}): {shown or 'nothing yet'}"
    said += f"; {kept:,} of {rows:,} rows selected" if record.get("selected_ids") else ""
    return said + (f"; unfinished: {read:,} of {rows:,} rows read" if read < rows else "")


def _brief(parameters: dict[str, Any]) -> str:
    """Return parameters as `name value`, long hashes cut."""

    def brief(value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return f"{text[:_DIGITS]}..." if len(text) == 64 and " " not in text else text

    return ", ".join(
        brief(value) if key in ("adapter", "operation") else f"{key} {brief(value)}"
        for key, value in parameters.items()
    )
