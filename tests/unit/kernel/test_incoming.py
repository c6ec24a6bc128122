"""Messages of a channel, as they come."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import pytest
import zmq
import zmq.asyncio
from jupyter_client.session import Session

from nbledger_workers.kernel.channels.incoming import Incoming


class Channel(NamedTuple):
    """What a kernel's client has of a channel."""

    socket: Any
    session: Session


@pytest.fixture
def context() -> Iterator[zmq.asyncio.Context]:
    made = zmq.asyncio.Context()
    yield made
    made.destroy(linger=0)


async def test_a_send_takes_no_message_from_a_receive_that_waits(
    context: zmq.asyncio.Context,
) -> None:
    session = Session(key=b"secret")
    kernel: Any = zmq.Context.shadow(context.underlying).socket(zmq.PAIR)
    kernel.bind("inproc://shell")
    ours = context.socket(zmq.PAIR)
    ours.connect("inproc://shell")
    incoming = Incoming(Channel(ours, session))
    # As the session sends: past the loop, which waits for the socket meanwhile.
    sending: Any = zmq.Socket.shadow(ours.underlying)
    sign: int = ours.fd  # type: ignore[assignment]

    def reply(kind: str) -> None:
        kernel.send_multipart(session.serialize(session.msg(kind)))

    with closing(kernel), closing(ours):
        async with asyncio.timeout(20):
            reply("first")
            assert (await incoming.next()).message is not None
            waiting = asyncio.create_task(incoming.next())
            while not incoming.waits:  # noqa: ASYNC110
                await asyncio.sleep(0)
            reply("second")
            assert select.select([sign], [], [], 10)[0]
            # ZeroMQ looks at what has come at most once in a millisecond when it sends.
            time.sleep(0.05)  # noqa: ASYNC251 - the loop must not see it
            sending.send(b"question")
            # The sign that something has come is gone, and the loop has not seen it.
            assert not select.select([sign], [], [], 0)[0]
            incoming.look_again()
            message = (await waiting).message
    assert message is not None
    assert message["msg_type"] == "second"
