"""What lies received of a channel is bounded by its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zmq
import zmq.asyncio
from jupyter_client.session import Session

from nbledger_workers.kernel.channels.backpressure import Passage
from nbledger_workers.kernel.channels.incoming import Incoming

MB = 1_000_000


class Channel(NamedTuple):
    """What a kernel's client has of a channel."""

    socket: Any
    session: Session


class Made(NamedTuple):
    """A kernel's socket, the passage to it, and who receives."""

    kernel: Any
    passage: Passage
    incoming: Incoming
    session: Session

    def send(self, size: int) -> None:
        message = self.session.msg("stream", {"text": "x" * size})
        self.kernel.send_multipart(self.session.serialize(message))

    async def sizes(self, count: int) -> list[int]:
        found = []
        for _ in range(count):
            message = (await self.incoming.next()).message
            assert message is not None
            found.append(len(message["content"]["text"]))
        return found


@pytest.fixture
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Made]:
    folder = tmp_path_factory.mktemp("p")
    context = zmq.asyncio.Context()
    context.setsockopt(zmq.RCVHWM, 0)
    # As a kernel's own, which has its own process, and keeps all that is not sent.
    others = zmq.Context()
    others.setsockopt(zmq.SNDHWM, 0)
    kernel = others.socket(zmq.PUSH)
    passage = Passage(folder / "kernel", most_waiting=4 * MB)
    await passage.open(folder / "ours")
    session = Session(key=b"secret")
    ours = context.socket(zmq.PULL)
    ours.connect(f"ipc://{folder}/ours")
    incoming = Incoming(Channel(ours, session), passage)
    # Later than whoever connects to it.
    kernel.bind(f"ipc://{folder}/kernel")
    made = Made(kernel, passage, incoming, session)
    # It waits for the connection.
    await asyncio.to_thread(made.send, 1)
    assert await made.sizes(1) == [1]
    yield made
    await passage.close()
    context.destroy(linger=0)
    others.destroy(linger=0)


async def held(made: Made) -> int:
    """Wait until the kernel is held up; how much waits then."""
    while not made.passage.held:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    # All that can come has come.
    for _ in range(20):
        await asyncio.sleep(0.005)
    return made.passage.waiting


async def test_a_kernel_is_held_up_while_too_much_waits_and_nothing_is_lost(made: Made) -> None:
    greeting = made.passage.waiting
    assert greeting < 200
    async with asyncio.timeout(30):
        for _ in range(60):
            made.send(MB)
        assert 4 * MB < await held(made) < 5 * MB
        assert await made.sizes(60) == [MB] * 60
        # To the byte: else small errors would add up to a stand-still, or to no bound.
        made.passage.held = False
        for _ in range(3_000):
            made.send(10)
        assert await made.sizes(3_000) == [10] * 3_000
        assert made.passage.waiting == greeting
        assert not made.passage.held


async def test_one_message_may_be_larger_than_what_may_wait(made: Made) -> None:
    async with asyncio.timeout(30):
        for _ in range(3):
            made.send(20 * MB)
        await held(made)
        assert await made.sizes(3) == [20 * MB] * 3


async def test_what_a_kernel_sent_before_it_ended_comes_all_the_same(made: Made) -> None:
    async with asyncio.timeout(30):
        for _ in range(40):
            made.send(MB)
        await held(made)
        receiving = asyncio.create_task(made.sizes(40))
        # As a kernel at its end: it stays until the system has all of it.
        await asyncio.to_thread(made.kernel.close, 20_000)
        assert await receiving == [MB] * 40


async def test_a_request_to_a_kernel_that_has_ended_costs_nothing_of_what_it_sent(
    tmp_path: Path,
) -> None:
    sent, gone = b"x" * 400_000, asyncio.Event()

    async def kernel(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        writer.close()
        gone.set()

    async with await asyncio.start_unix_server(kernel, tmp_path / "kernel"):
        passage = Passage(tmp_path / "kernel", most_waiting=1_000)
        await passage.open(tmp_path / "client")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "client")
        passage.begin()
        await gone.wait()
        while not passage.held:  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0.01)
        for _ in range(20):
            writer.write(b"a request")
            await asyncio.sleep(0.01)
        received = b""
        async with asyncio.timeout(20):
            while piece := await reader.read(1 << 16):
                received += piece
                passage.taken([piece])
        assert len(received) == len(sent)
        writer.close()
        await passage.close()
