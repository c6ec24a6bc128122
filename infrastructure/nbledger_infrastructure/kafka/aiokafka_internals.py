"""What we use of aiokafka beyond what it documents, all of it in this module.

It gives no other way to end a client that hangs, to see its connections, to send a request of our
own, or to leave offsets out. A new version that has taken something away, or changed it, fails
``tests/integration/infrastructure/test_aiokafka_internals.py``, which names it.
"""

# ruff: noqa: SLF001

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import aiokafka.client
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

Client: TypeAlias = AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient


def network(client: Client) -> AIOKafkaClient:
    """What a client sends its requests with."""
    found: AIOKafkaClient = (
        client._client if not isinstance(client, AIOKafkaProducer) else (client.client)
    )
    return found


def leave_out(batch: BatchBuilder, offsets: int) -> None:
    """Let the first message of an empty batch follow only after so many offsets."""
    batch._relative_offset = offsets


class Connections:
    """The connections that a client and its tasks make, so that none outlives it.

    aiokafka loses sight of the one it bootstraps from when it is cancelled meanwhile, closes
    none for sure while the broker hangs, and lets tasks that have not ended yet make new ones.
    """

    def __init__(self) -> None:
        self._connecting: set[asyncio.Timeout] = set()
        self._open: list[tuple[Any, asyncio.WriteTransport]] = []
        self._cut = False

    @contextmanager
    def owned(self) -> Iterator[None]:
        """What connects in this block, or in a task begun in it, connects for this client."""
        token = _owner.set(self)
        try:
            yield
        finally:
            _owner.reset(token)

    def _must_not_be_cut(self) -> None:
        if self._cut:
            raise KafkaConnectionError("given up")

    async def connect(self, *arguments: Any, **options: Any) -> AIOKafkaConnection:
        """As aiokafka connects. ``TimeoutError`` or ``KafkaConnectionError`` when all is cut."""
        self._must_not_be_cut()
        async with asyncio.timeout(None) as until_cut:
            self._connecting.add(until_cut)
            try:
                made: Any = await create_conn(*arguments, **options)
            finally:
                self._connecting.discard(until_cut)
        try:
            self._must_not_be_cut()
        except KafkaConnectionError:
            # It was made in the very moment of the cut.
            made.close()
            made._writer.transport.abort()
            raise
        self._open = [each for each in self._open if not each[0]._closed_fut.done()]
        self._open.append((made, made._writer.transport))
        return made

    def cut(self) -> None:
        """Close all at once, whatever they have not sent yet, and let nothing connect anymore."""
        self._cut = True
        for until_cut in self._connecting:
            until_cut.reschedule(0.0)
        for connection, transport in self._open:
            connection.close()
            transport.abort()

    async def wait_closed(self, seconds: float) -> None:
        """After a cut: until the sockets are closed, or for so many seconds."""
        if closed := [connection._closed_fut for connection, _ in self._open]:
            await asyncio.wait(closed, timeout=seconds)
        # It has been told that it is closed just before it is.
        await asyncio.sleep(0)


_owner: ContextVar[Connections | None] = ContextVar("kafka connections", default=None)


async def _create_conn(*arguments: Any, **options: Any) -> AIOKafkaConnection:
    connect = create_conn if (owner := _owner.get()) is None else owner.connect
    return await connect(*arguments, **options)


# aiokafka has no other place where all that a client connects can be seen.
aiokafka.client.create_conn = _create_conn


async def give_up_sending(client: AIOKafkaProducer, seconds: float) -> None:
    """After its connections are cut: end its tasks, and fail what they have not sent.

    Waits ``seconds`` at most.

    In this order: a request under way puts its batches back when it fails, and finds them
    missing when they have been failed before.
    """
    sending = None if client._sender is None else client._sender.sender_task
    if sending is not None:
        sending.cancel()
        await asyncio.wait({sending}, timeout=seconds)
    accumulator = client._message_accumulator
    waiting = accumulator._pending_batches
    # Where each one that has been tried is looked for when it is done.
    waiting.update(batch for lane in accumulator._batches.values() for batch in lane)
    failed = list(waiting)
    accumulator.fail_all(KafkaError("given up"))
    for batch in failed:
        for outcome in (batch.future, batch._drain_waiter):
            if outcome.done() and not outcome.cancelled():
                outcome.exception()  # nobody else will ask for it
