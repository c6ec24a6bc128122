"""The bytes of a notebook file as a JSON document, and the version that it claims."""

import codecs
import json
import math
from collections import Counter
from typing import Any

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_infrastructure.datasets.file_kinds import kind_of_binary
from nbledger_infrastructure.notebooks.notes import Notes, listed

NBFORMAT, NBFORMAT_MINOR = 4, 5

_MAX_DIGITS = 4_000
"""Python converts integers of up to 4,300 digits from text."""

_HEAD_BYTES = 1024
_MARKS = (
    # UTF-32 comes first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(content: bytes, notes: Notes) -> dict[str, Any]:
    """The JSON object in ``content``. Raises :class:`InvalidInputError`."""
    if not content.strip():
        raise broken("is empty")
    if (kind := kind_of_binary(content[:_HEAD_BYTES])) is not None:
        raise broken(f"is no notebook, it is {kind}: send the .ipynb, alone or in a ZIP archive")
    text = _text(content, notes)
    repeated: dict[str, None] = {}

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            repeated.update(dict.fromkeys(name for name, count in counts.items() if count > 1))
        return found

    try:
        document = json.loads(text, object_pairs_hook=members, parse_int=_integer)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise broken(f"is no notebook, for it is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise broken("is nested too deeply") from None
    if not isinstance(document, dict):
        raise broken("is not a notebook: a JSON object is needed")
    if repeated:
        notes.warn(
            f"members are there twice in one object, and the last counts: {listed(repeated)}"
        )
    return document


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.copysign(math.inf, float(digits[:2]))


def _text(content: bytes, notes: Notes) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            try:
                text = content.decode(encoding)
            except UnicodeDecodeError as error:
                shown = encoding.upper()
                raise broken(f"is not {shown}: byte {error.start} cannot be read") from None
            notes.warn(f"the file is in {encoding.upper()} and not in UTF-8, and was read as that")
            return text
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise broken(f"is not UTF-8: byte {error.start} cannot be read") from None


def version(document: dict[str, Any], notes: Notes) -> tuple[int, int]:
    """Major and minor version of nbformat that the document is to be read as.

    Raises :class:`InvalidInputError`.
    """
    major = _number(document.get("nbformat"))
    if major is None:
        major = _likely_major(document)
        told = "names no version" if "nbformat" not in document else "names a version that is none"
        notes.warn(f"the file {told} of nbformat; it was read as {major}")
    if not 1 <= major <= NBFORMAT:
        reason = f"version {major} is not supported; 1 to {NBFORMAT} are"
        raise InvalidInputError([Fault("/nbformat", reason)])
    if major == NBFORMAT and "cells" not in document and "worksheets" in document:
        notes.warn("the file says nbformat 4 and has the worksheets of 3; it was read as 3")
        major = 3
    elif major in (2, 3) and "worksheets" not in document and "cells" in document:
        notes.warn(f"the file says nbformat {major} and has the cells of 4; it was read as 4")
        major = NBFORMAT
    minor = _number(document.get("nbformat_minor", 0))
    if minor is None or minor < 0:
        notes.warn("nbformat_minor is not a number; it was read as 0")
        minor = 0
    if major == NBFORMAT and minor > NBFORMAT_MINOR:
        newest = f"{NBFORMAT}.{NBFORMAT_MINOR}"
        notes.warn(f"the file is of nbformat {major}.{minor}, and was read as {newest}")
    return major, minor


def _number(value: Any) -> int | None:
    """A version number however it is written; ``None`` for what is none."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value.strip()[:9])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return max(-1, min(value, 10**9))


def _likely_major(document: dict[str, Any]) -> int:
    if "worksheets" in document:
        return 3
    cells = document.get("cells")
    first = next(iter(cells), None) if isinstance(cells, list) else None
    if isinstance(first, dict) and "source" not in first and ("code" in first or "text" in first):
        return 1
    return NBFORMAT


def broken(reason: str) -> InvalidInputError:
    """The whole file cannot be read."""
    return InvalidInputError([Fault("", f"the file {reason}")])
