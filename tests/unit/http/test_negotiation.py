"""Accept and Accept-Encoding as RFC 9110 has them."""

from __future__ import annotations

import pytest
from litestar.testing import RequestFactory

from nbledger_http.replies.negotiation import preferred, takes_gzip

OFFERED = ("application/json", "application/x-ndjson", "text/event-stream")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, 0),
        ("", 0),
        ("*/*", 0),
        ("application/*", 0),
        ("image/png", 0),
        ("text/event-stream", 2),
        ("Text/Event-Stream ; charset=utf-8", 2),
        ("text/event-stream, */*", 2),
        ("*/*, text/event-stream", 2),
        ("text/*", 2),
        ("application/json;q=0.5, application/x-ndjson", 1),
        ("application/x-ndjson;q=0.4, application/json;q=0.5", 0),
        ("application/x-ndjson, application/json", 1),
        ("application/json, application/x-ndjson", 0),
        # What is weighed 0 is not sent.
        ("application/x-ndjson;q=0", 0),
        ("text/event-stream;q=0.000, application/x-ndjson;q=0", 0),
        ("application/json;q=0, */*", 1),
        ("application/json;q=0, application/*, text/event-stream;q=0.1", 1),
        ("application/json; q=0 , application/x-ndjson ; q=0.001", 1),
        ('application/x-ndjson;note="a,;q=0";q=1', 1),
        ("*/*;q=0", 0),
    ],
)
def test_the_client_weighs_media_types(accept: str | None, chosen: int) -> None:
    headers = None if accept is None else {"Accept": accept}
    assert preferred(RequestFactory().get(headers=headers), OFFERED) == OFFERED[chosen]


@pytest.mark.parametrize(
    ("encodings", "taken"),
    [
        (None, False),
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, *", False),
        ("*;q=0", False),
        ("notgzip", False),
    ],
)
def test_the_client_takes_gzip_or_does_not(encodings: str | None, *, taken: bool) -> None:
    headers = None if encodings is None else {"Accept-Encoding": encodings}
    assert takes_gzip(RequestFactory().get(headers=headers)) is taken
