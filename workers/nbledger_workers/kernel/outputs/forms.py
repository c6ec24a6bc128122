"""The forms of one nbformat 4 output: media types and bytes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nbledger_domain.vocabulary import media_types

#: Richest first; what is not named here comes before the plain forms at the end.
_ORDER: Final = (
    "text/html",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "application/pdf",
    "text/markdown",
    "text/latex",
    "application/json",
)
_LAST: Final = ("application/javascript", "text/plain")

_TERMINAL_CODES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")


def forms(output: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """Media type and bytes of every form, richest first."""
    kind = output["output_type"]
    if kind == "stream":
        return [("text/plain", _text(output.get("text", "")))]
    if kind == "error":
        told = {name: output.get(name) for name in ("ename", "evalue", "traceback")}
        lines = "\n".join(plain(str(line)) for line in output.get("traceback") or [])
        text = lines or f"{output.get('ename')}: {output.get('evalue')}"
        return [("text/plain", _text(text)), (media_types.ERROR, msgspec.json.encode(told))]
    data: Mapping[str, Any] = output.get("data") or {}
    found = [(media_type, _content(media_type, value)) for media_type, value in data.items()]
    return sorted(found, key=lambda form: _rank(form[0]))


def plain(text: str) -> str:
    """The text without a terminal's colours."""
    return _TERMINAL_CODES.sub("", text)


def _rank(media_type: str) -> int:
    if media_type in _ORDER:
        return _ORDER.index(media_type)
    if media_type in _LAST:
        return len(_ORDER) + 1 + _LAST.index(media_type)
    return len(_ORDER)


def _content(media_type: str, value: Any) -> bytes:
    if media_types.is_json(media_type):
        return msgspec.json.encode(value)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    if not isinstance(value, str):
        return msgspec.json.encode(value)
    if media_types.is_binary(media_type):
        try:
            return base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            # Not what the kernel said it is; kept as it came.
            return _text(value)
    return _text(value)


def _text(value: Any) -> bytes:
    text = "".join(value) if isinstance(value, list) else str(value)
    return text.encode("utf-8", "replace")
