"""What a client accepts of a reply: the media type it prefers, and whether it takes gzip."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from litestar import Request

_ELEMENT: Final = re.compile(r'\s*(?P<value>[^\s;,]+)(?P<parameters>(?:"[^"]*"|[^",])*)')
_QUALITY: Final = re.compile(r";\s*q\s*=\s*(?P<q>[01](?:\.[0-9]{0,3})?)\s*(?:;|$)")


def preferred(request: Request[Any, Any, Any], offered: Sequence[str]) -> str:
    """Which of the ``offered`` media types the client prefers; the first one without any wish.

    Its weights decide, then whether it names the type or what includes it, then its own order, then
    that of the server. What it weighs 0 it does not get, unless it accepts nothing at all of this:
    then it gets the first (RFC 9110 allows that beside refusing).
    """
    told = list(_elements(request.headers.getall("accept", [])))
    if not told:
        return offered[0]
    ranked = [(_rank(each, told), each) for each in offered]
    (quality, *_), best = max(ranked, key=lambda each: each[0])
    return best if quality > 0 else offered[0]


def takes_gzip(request: Request[Any, Any, Any]) -> bool:
    """Whether the answer may be compressed by gzip."""
    weights = dict(_elements(request.headers.getall("accept-encoding", [])))
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def _rank(media_type: str, told: Sequence[tuple[str, float]]) -> tuple[float, int, int]:
    """The weight of a media type, how exactly it is named, and how early."""
    kind = media_type.partition("/")[0]
    for exactness, name in ((2, media_type), (1, f"{kind}/*"), (0, "*/*")):
        for place, (value, quality) in enumerate(told):
            if value == name:
                return quality, exactness, -place
    return 0.0, 0, 0


def _elements(headers: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Each value in lower case, with its weight from 0 to 1."""
    for header in headers:
        for found in _ELEMENT.finditer(header):
            quality = _QUALITY.search(found["parameters"])
            yield found["value"].lower(), 1.0 if quality is None else float(quality["q"])
