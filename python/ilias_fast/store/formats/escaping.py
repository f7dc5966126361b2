"""The official writer's escaping of ids."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["escape_id", "unescape_id", "unescape_ids"]

_ESCAPES = re.compile(r"#U([0-9a-f]{4})|\\\\U([0-9a-f]{8})|\\\\([tnr])|(\\\\\\\\)|\\(')")


def escape_id(name: str) -> str:
    """Return an id as the official writer stores it (ASCII).

    `str()` of the bytes of the unicode-escape, in which a doubled backslash before `u` becomes `#U` and
    before `x` becomes `#U00`: "café/1.jpg" is stored as "caf#U00e9/1.jpg".

    Args:
        name: The id.

    Examples:
        >>> escape_id("café/1.jpg")
        'caf#U00e9/1.jpg'
    """
    text = str(name.encode("unicode-escape"))[2:-1]
    return text.replace("\\\\u", "#U").replace("\\\\x", "#U00")


def unescape_id(stored: str) -> str:
    """Return the id the official writer escaped.

    The escaping is not one-to-one: an id that itself contains `#U` and four hex digits, or a backslash before
    `u` or `x`, comes back as something else.

    Args:
        stored: The id as the file has it.

    Examples:
        >>> unescape_id("caf#U00e9/1.jpg")
        'café/1.jpg'
    """

    def original(match: re.Match[str]) -> str:
        short, long, control, backslash, quote = match.groups()
        if control:
            return {"t": "\t", "n": "\n", "r": "\r"}[control]
        if backslash or quote:
            return "\\" if backslash else "'"
        code = int(short or long, 16)
        return chr(code) if code < 0xD800 or 0xDFFF < code < 0x110000 else match[0]

    return _ESCAPES.sub(original, stored)


def unescape_ids(stored: Sequence[str]) -> list[str]:
    """Return `unescape_id` of each; fast where there is nothing to do.

    Args:
        stored: The ids as the file has them.
    """
    text = "\n".join(stored)
    if "#U" not in text and "\\" not in text:
        return list(stored)
    return [unescape_id(name) for name in stored]
