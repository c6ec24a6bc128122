"""Numbers, lists and names in the words of messages."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Final

MOST_LISTED: Final = 5
"""Of what may be any number, so many are named; the others are counted."""

MAX_NAME: Final = 100
"""Characters of a name; what is longer is meant for none."""

_SEPARATORS: Final = re.compile(r"[\s_-]")
_WORDS: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")


def many(count: int, unit: str) -> str:
    """``count`` with its ``unit``: ``1 byte``, ``2,500 bytes``."""
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"


def counted(value: float, unit: str) -> str:
    """``value`` with its ``unit``: ``1 second``, ``2.5 seconds``, ``1800 seconds``."""
    return f"{value:.10g} {unit}" if value == 1 else f"{value:.10g} {unit}s"


def listed(names: Sequence[str], *, most: int = MOST_LISTED) -> str:
    """``names`` in one text: the first ``most`` of them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The ``known`` name that is probably meant; ``None`` where it is like none of them."""
    plain = {_plain(each): each for each in known}
    near = difflib.get_close_matches(_plain(name[:MAX_NAME]), plain, n=1)
    return plain[near[0]] if near else None


def nearest_member(name: str, known: Sequence[str]) -> str | None:
    """Likewise where one word of a name stands for all of it: ``name`` for ``notebookName``."""
    near = nearest(name, known)
    if near is not None or len(name) > MAX_NAME:
        return near
    asked = [each.lower() for each in _WORDS.findall(name)]
    having = [each for each in known if _has(each, asked)]
    return having[0] if asked and len(having) == 1 else None


def _has(name: str, words: list[str]) -> bool:
    own = [each.lower() for each in _WORDS.findall(name)]
    return any(own[place : place + len(words)] == words for place in range(len(own)))


def _plain(name: str) -> str:
    """``name`` without what tells cellRange from cell_range."""
    return _SEPARATORS.sub("", name).casefold()
