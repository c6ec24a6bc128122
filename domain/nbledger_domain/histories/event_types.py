"""Types of events, or beginnings of them, that requests name."""

import re
from typing import Final

from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.webhook import TYPE_PATTERN
from nbledger_domain.words import nearest

_TYPE: Final = re.compile(TYPE_PATTERN)


def unknown_type(text: str) -> str | None:
    """Why ``text`` is no type of events, nor the beginning of one, and which was probably meant."""
    readable = EVENT_TYPES.readable()
    parts = [each.split(".") for each in readable]
    known = {".".join(each[:count]) for each in parts for count in range(1, len(each) + 1)}
    if text in known:
        return None
    # Of names that are equally like it, a whole type.
    near = nearest(text, sorted(known, key=lambda each: (each not in readable, each)))
    hint = "" if near is None else f"; did you mean {near}?"
    if not _TYPE.fullmatch(text):
        return f"must be a type of events such as execution.requested.v1{hint}"
    return f"is an unknown type of events{hint}"
