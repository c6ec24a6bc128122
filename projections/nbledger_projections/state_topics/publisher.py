"""Keeps the state topics: one process at a time publishes what has changed, others stand by.

It follows the read models, and so is never ahead of what is committed. Its position moves when the
broker has acknowledged: each document comes at least once, and no older one after a newer one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from nbledger_infrastructure.kafka.clients import (
    BrokerUnavailableError,
    ensure_state_topics,
    producer,
)
from nbledger_infrastructure.kafka.event_topic import BrokerForgotError
from nbledger_infrastructure.kafka.messages import Message
from nbledger_infrastructure.kafka.offsets import Offsets
from nbledger_infrastructure.kafka.publishing import publish
from nbledger_infrastructure.kafka.topic_ids import topic_ids
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.checkpoints import Checkpoint
from nbledger_infrastructure.postgres.database import (
    Pool,
    PooledConnection,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.postgres.leading import Leader
from nbledger_infrastructure.settings import Settings
from nbledger_projections.machinery.one_moment import one_moment
from nbledger_projections.state_topics import changes
from nbledger_projections.state_topics.changes import POSITIONS_AT_ONCE, Changed, Reach
from nbledger_projections.state_topics.filling import Filling
from nbledger_projections.state_topics.records import Records
from nbledger_projections.state_topics.states import EXECUTION, MODELS, STATES, StateKind

log = structlog.get_logger(__name__)

NAME: Final = "state-topics"
"""Under this name the position is kept."""

GATHER_SECONDS: Final = 0.25
"""A document that changes several times in this time is published once."""

DOCUMENTS_AT_ONCE: Final = 100
EXECUTIONS_AT_ONCE: Final = 5_000
"""Ids of executions of a deleted notebook that are read at a time."""

CHECK_SECONDS: Final = 2.0
"""How often the broker is asked whether it still has the topics."""

ACK_SECONDS: Final = 8.0
"""Seconds for the broker to take what is published at once."""

_BY_KIND: Final = {each.kind: each for each in STATES}
# Any constant does, as long as nothing else in the database locks on it.
_LOCK: Final = 0x6E626C_737461


class DocumentMissingError(Exception):
    """A read model lacks a document that no event has deleted: it is looked for again."""


_INTERRUPTIONS = (BrokerForgotError, BrokerUnavailableError, KafkaError, DocumentMissingError)


async def run(settings: Settings, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Publish until ``stop`` is set; ``on_ready`` is called once at work, or standing by.

    While the broker or the database is away it is tried again and again. Raises
    ``DatabaseUnavailableError`` when the database is away at the start.
    """
    pool = await connect_pool(
        settings.postgres.dsn, max_size=2, application_name="nbledger-state-topics"
    )
    try:
        leader = Leader(NAME, _LOCK, stop, on_ready, interruptions=_INTERRUPTIONS)
        await leader.lead(pool, _Publisher(settings, pool, leader).publish_until_told)
    finally:
        await close_pool(pool)


class _Publisher:
    def __init__(self, settings: Settings, pool: Pool, leader: Leader) -> None:
        self._kafka = settings.kafka
        self._pool = pool
        self._leader = leader
        self._records = Records(settings)
        self._filling = Filling(settings.kafka)
        self._offsets = Offsets(settings.kafka)

    async def publish_until_told(self, connection: PooledConnection) -> None:
        """Publish, with a producer of its own, until told to stop; the lock ends with it."""
        self._offsets = Offsets(self._kafka)
        # Whatever the broker has forgotten is made again.
        await ensure_state_topics(self._kafka, [each.topic for each in STATES])
        async with (
            producer(self._kafka, client_id="nbledger-state-topics") as client,
            _moves(connection) as moved,
        ):
            at = await self._begin(connection)
            ids = await topic_ids(client)
            log.info("state topics at work", position=at.position)
            self._leader.at_work()
            try:
                await self._publish_all(connection, client, at, ids, moved)
            except BrokerForgotError:
                await self._filling.forget(connection)
                raise

    async def _publish_all(
        self,
        connection: PooledConnection,
        client: AIOKafkaProducer,
        at: Checkpoint,
        ids: dict[str, UUID],
        moved: asyncio.Event,
    ) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + CHECK_SECONDS
        while not self._leader.stop.is_set():
            if loop.time() >= due:
                ids = await self._check(client)
                due = loop.time() + CHECK_SECONDS
            moved.clear()
            async with self._one_moment() as reading:
                reach = await changes.reach(reading)
            went_on = False
            # A read model may be behind what was published, while it is made anew.
            if reach.position >= at.position:
                await self._compare(connection, ids, reach)
                went_on = await self._fill(connection, client)
                before, at = at, await self._follow(connection, client, at, reach)
                went_on = went_on or at != before
            self._leader.succeeded()
            if not went_on:
                await self._rest(moved)

    async def _begin(self, connection: PooledConnection) -> Checkpoint:
        """Where to go on; what was there before the first time is published by filling."""
        at = await checkpoints.ensure(connection, NAME)
        if await self._filling.load(connection) or at.position:
            return at
        async with self._one_moment() as reading:
            reach = await changes.reach(reading)
        return await _move(connection, at, reach.position)

    async def _compare(
        self, connection: PooledConnection, ids: dict[str, UUID], reach: Reach
    ) -> None:
        try:
            begun = await self._filling.compare(connection, ids, reach)
        except KeyError:
            raise BrokerForgotError from None
        if begun:
            log.info("all documents are published", topics=begun)

    async def _check(self, client: AIOKafkaProducer) -> dict[str, UUID]:
        ids = await topic_ids(client)
        if not self._filling.has_all(ids):
            raise BrokerForgotError
        return ids

    async def _fill(self, connection: PooledConnection, client: AIOKafkaProducer) -> bool:
        """Publish the next documents of a topic that lacks some; whether there is such a one."""
        lacking = self._filling.lacking()
        if lacking is None:
            return False
        kind, after = lacking
        async with self._one_moment() as reading:
            page = await kind.page(reading, after, DOCUMENTS_AT_ONCE)
        await self._publish(client, [self._records.document(kind, each) for each in page])
        whole = len(page) == DOCUMENTS_AT_ONCE
        await self._filling.filled(connection, kind, page[-1].id if whole else None)
        return True

    async def _follow(
        self, connection: PooledConnection, client: AIOKafkaProducer, at: Checkpoint, reach: Reach
    ) -> Checkpoint:
        """Publish what has changed since, as far as the read models tell of it."""
        through = min(reach.position, at.position + POSITIONS_AT_ONCE)
        if through == at.position:
            return at
        changed = await changes.changed(connection, at.position, through)
        for kind, documents in changed.items():
            await self._publish_newest(client, _BY_KIND[kind], documents)
        for notebook in await changes.deleted_notebooks(connection, at.position, through):
            await self._delete_executions(connection, client, notebook)
        return await _move(connection, at, through)

    async def _publish_newest(
        self, client: AIOKafkaProducer, kind: StateKind, documents: Sequence[Changed]
    ) -> None:
        for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
            some = documents[start : start + DOCUMENTS_AT_ONCE]
            async with self._one_moment() as reading:
                found = await kind.read(reading, [each.id for each in some])
                there = {each.id for each in found}
                missing = [each for each in some if each.id not in there]
                gone = await changes.gone(reading, missing) if missing else {}
            messages = [self._records.document(kind, each) for each in found]
            for each in missing:
                if each.id not in gone:
                    raise DocumentMissingError(f"{kind.kind} {each.id}")
                position, at = gone[each.id]
                # No record of it has had a higher position.
                last = each if each.position > position else _at(each, position, at)
                messages.append(self._records.deletion(kind, last))
            await self._publish(client, messages)

    async def _delete_executions(
        self, connection: PooledConnection, client: AIOKafkaProducer, notebook: Changed
    ) -> None:
        after = UUID(int=0)
        while page := await changes.executions_of(connection, notebook, after, EXECUTIONS_AT_ONCE):
            await self._publish_newest(client, _BY_KIND[EXECUTION], page)
            after = page[-1].id

    async def _publish(self, client: AIOKafkaProducer, messages: Sequence[Message]) -> None:
        async with asyncio.timeout(ACK_SECONDS):
            acknowledged = await publish(client, messages)
        await self._offsets.check(acknowledged)

    async def _rest(self, moved: asyncio.Event) -> None:
        """Wait until a read model has moved, or the broker is to be asked; then gather."""
        waiting = [
            asyncio.create_task(moved.wait()),
            asyncio.create_task(self._leader.stop.wait()),
        ]
        try:
            await asyncio.wait(waiting, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if moved.is_set():
            await self._leader.pause(GATHER_SECONDS)

    @asynccontextmanager
    async def _one_moment(self) -> AsyncIterator[PooledConnection]:
        async with one_moment(self._pool, MODELS) as connection:
            yield connection


@asynccontextmanager
async def _moves(connection: PooledConnection) -> AsyncIterator[asyncio.Event]:
    """Set whenever a read model that states are made of has moved."""
    moved = asyncio.Event()

    def on_notify(_: object, __: int, ___: str, payload: object) -> None:
        if str(payload).partition(":")[0] in MODELS:
            moved.set()

    await connection.add_listener(checkpoints.CHANNEL, on_notify)
    try:
        yield moved
    finally:
        if not connection.is_closed():
            await connection.remove_listener(checkpoints.CHANNEL, on_notify)


def _at(changed: Changed, position: int, at: object) -> Changed:
    return msgspec.structs.replace(changed, position=position, at=at)


async def _move(connection: PooledConnection, expected: Checkpoint, position: int) -> Checkpoint:
    async with connection.transaction():
        await checkpoints.lock_at(connection, NAME, expected)
        await checkpoints.move(connection, NAME, position)
    return Checkpoint(position, expected.generation)
