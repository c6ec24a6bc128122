"""Server-sent events are read however the network cuts them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbledger_client.core.streams import Message, Parser

TEXT = (
    b'retry: 250\n\n: waiting\n\nid: 7\nevent: a.v1\ndata: {"x":\ndata: 1}\n\n'
    b"id: 9\r\n\r\ndata:no id of its own\r\rdata\n\nevent: nothing\n\ndata: cut off"
)
FOUND = [
    Message("7", "a.v1", b'{"x":\n1}'),
    Message("9", "", b""),
    Message("9", "", b"no id of its own"),
    Message("9", "", b""),
]


@given(st.lists(st.integers(1, len(TEXT)), max_size=12))
def test_messages_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    parser, found, before = Parser(), [], 0
    for cut in [*sorted(set(cuts)), len(TEXT)]:
        found += parser.feed(TEXT[before:cut])
        before = cut
    assert found == FOUND
    assert parser.retry_seconds == 0.25
