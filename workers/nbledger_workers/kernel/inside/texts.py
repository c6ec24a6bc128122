"""Text that messages of a kernel can carry; runs inside the kernel.

Text of Python may have lone surrogates, which UTF-8 does not: a message with one would be lost.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

_SURROGATES = re.compile("[\ud800-\udfff]")


def pack_any_text(session: Any) -> None:
    """Have the session send U+FFFD for lone surrogates, wherever in a message they stand."""
    pack = session.pack

    def packed(content: Any) -> Any:
        try:
            return pack(content)
        except UnicodeEncodeError:
            return pack(without_surrogates(content))

    with contextlib.suppress(Exception):
        session.pack = packed


def without_surrogates(value: Any) -> Any:
    """A value of JSON with U+FFFD in the place of each lone surrogate of its texts."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_surrogates(each) for each in value]
    return value


def text_of(value: object, most: int) -> str:
    """At most so many characters of a value's text, as `str` itself; "" where it has none.

    A class of the notebook's own may raise anything, `SystemExit` too, and be text of its own kind.
    """
    try:
        cut: str = without_surrogates(str.__getitem__(str(value), slice(0, most)))
    except BaseException:  # noqa: BLE001
        return ""
    return cut
