"""JSON of what a kernel sends, which may be more than JSON allows."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def to_json(value: Any) -> bytes:
    """JSON as UTF-8; NaN becomes null, a lone surrogate a replacement character."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, TypeError, ValueError, msgspec.MsgspecError):
        # The encoder stops at a lone surrogate; the standard library's writes NaN as it is.
        text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        return msgspec.json.encode(json.loads(text, parse_constant=lambda _: None))
