"""The process manager of lineage: it follows the events, and tells what they bring about.

Its position moves once the receiver has what came before: at least once, in order for each run. It
works beside the relay of events, with connections of its own, and holds nobody up.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from nbledger_domain.lineage.facts import Document
from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.lineage.gathering import CONCERN, Gatherer, teller_of
from nbledger_infrastructure.lineage.http_sender import HttpSender
from nbledger_infrastructure.lineage.kafka_sender import KafkaSender
from nbledger_infrastructure.lineage.sending import ReceiverAwayError, Sender
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.checkpoints import Checkpoint
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import moments
from nbledger_infrastructure.postgres.event_store.types import Change, change
from nbledger_infrastructure.settings import Settings

log = structlog.get_logger(__name__)

NAME: Final = "lineage"
"""Under this name the manager keeps its position."""

READ_EVENTS: Final = 2_000
SEND_EVENTS: Final = 100
"""So many events that are told are sent before the position is moved."""

SAVE_SECONDS: Final = 10.0
"""Seconds after which the position is moved, though nothing was told."""

WAIT_SECONDS: Final = 1.0
"""Seconds that a tick waits for what is being sent: the lead is lost when ticks take long."""

LONGEST_PAUSE_SECONDS: Final = 60.0

# In the order that `change` takes them.
_READ: Final = """
SELECT position, stream_id, version, type, tenant_id, project_id FROM event
WHERE position > $1 ORDER BY position LIMIT $2
"""


class LineageManager:
    """Tells at each :meth:`tick`, and between; of several processes one at a time should.

    :meth:`close` ends what is under way.
    """

    def __init__(self, pool: Pool, settings: Settings, sender: Sender | None = None) -> None:
        self._pool = pool
        self._from_now = settings.lineage.start == "now"
        self._gatherer = Gatherer(pool, teller_of(settings))
        self._sender = sender or open_sender(settings)
        self._saved: Checkpoint | None = None
        self._position = 0
        self._saved_at = time.monotonic()
        self._task: asyncio.Task[bool] | None = None
        self._backoff = Backoff(1.0, LONGEST_PAUSE_SECONDS)
        self._again_at = 0.0

    async def tick(self) -> float | None:
        """Go on telling; returns the seconds until the next look.

        Raises ``DatabaseUnavailableError``, and ``CheckpointMovedError`` where another process is
        at work. A receiver that is away is told in the log, and tried again after a pause.
        """
        pause = self._again_at - time.monotonic()
        if pause > 0:
            return pause
        if self._task is None:
            self._task = asyncio.create_task(self._advance(), name="lineage")
        await asyncio.wait({self._task}, timeout=WAIT_SECONDS)
        if not self._task.done():
            return 0.0
        task, self._task = self._task, None
        try:
            more = task.result()
        except ReceiverAwayError as error:
            return self._away(error)
        if self._backoff.failures:
            log.info("lineage goes on", failures=self._backoff.failures, position=self._position)
            self._backoff.reset()
        return 0.0 if more else None

    async def close(self) -> None:
        """End what is being sent; whoever goes on sends it again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._sender.aclose()

    def _away(self, error: ReceiverAwayError) -> float:
        if not self._backoff.failures:
            log.warning("lineage not delivered", error=str(error)[:500], position=self._position)
        pause = self._backoff.fail()
        self._again_at = time.monotonic() + pause
        return pause

    async def _advance(self) -> bool:
        """Tell of the next events; returns whether there may be more."""
        async with acquire(self._pool) as connection:
            if self._saved is None:
                begin = await moments.head(connection) if self._from_now else 0
                self._saved = await checkpoints.ensure(connection, NAME, position=begin)
                self._position = self._saved.position
            rows = await connection.fetch(_READ, self._position, READ_EVENTS)
        changes = [change(row) for row in rows]
        concern = [each for each in changes if each.type in CONCERN]
        for start in range(0, len(concern), SEND_EVENTS):
            part = concern[start : start + SEND_EVENTS]
            await self._tell(part)
            await self._save(part[-1].position)
        if changes:
            self._position = changes[-1].position
        behind = self._position > self._saved.position
        if behind and time.monotonic() >= self._saved_at + SAVE_SECONDS:
            await self._save(self._position)
        return len(changes) == READ_EVENTS

    async def _tell(self, changes: Sequence[Change]) -> None:
        told: list[Document] = []
        for each in changes:
            told += await self._gatherer.told_of(each)
        if told:
            await self._sender.send(told)

    async def _save(self, position: int) -> None:
        assert self._saved is not None  # noqa: S101 (whoever saves has read)
        async with acquire(self._pool) as connection, connection.transaction():
            await checkpoints.lock_at(connection, NAME, self._saved)
            await checkpoints.move(connection, NAME, position)
        self._saved = Checkpoint(position, self._saved.generation)
        self._position = position
        self._saved_at = time.monotonic()


def open_sender(settings: Settings) -> Sender:
    """The sender that the settings ask for."""
    if settings.lineage.transport == "kafka":
        return KafkaSender(settings.kafka)
    return HttpSender(settings.lineage)
