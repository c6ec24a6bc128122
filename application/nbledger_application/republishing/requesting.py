"""Asking for events of a project to be published again, and ending that."""

from typing import Final
from uuid import UUID

import msgspec

from nbledger_application.caller import Caller
from nbledger_application.commands.record_history_read import ReadRecorder
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.histories.replays import (
    ReplayEndedError,
    ReplayNotFoundError,
    TooManyReplaysError,
)
from nbledger_infrastructure.postgres import event_replays
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_replays import EventReplay, ReplayRange
from nbledger_infrastructure.postgres.event_store import moments

MAX_OPEN: Final = 10
"""So many replays of a project may wait or be carried out."""


class AskedReplay(msgspec.Struct, frozen=True):
    """What to publish again: positions from ``first`` to ``last``, or to the newest."""

    topic: str
    first: int
    last: int | None


async def request_replay(
    pool: Pool, reads: ReadRecorder, caller: Caller, asked: AskedReplay
) -> EventReplay:
    """Have events of the caller's project published again; it is recorded as an export of them.

    Raises :class:`InvalidInputError` for a topic in use, and :class:`TooManyReplaysError`.
    """
    async with acquire(pool) as connection:
        if await event_replays.topic_of_another_tenant(connection, asked.topic, caller.tenant_id):
            raise InvalidInputError([Fault("/topic", "is in use; choose another name")])
        _, waiting = await event_replays.count(connection, caller.tenant_id, caller.project_id)
        if waiting >= MAX_OPEN:
            raise TooManyReplaysError(MAX_OPEN)
        head = await moments.head(connection)
    last = head if asked.last is None else min(asked.last, head)
    await reads.record(caller, "project", None, "export", after=asked.first - 1, until=last)
    wanted = ReplayRange(
        topic=asked.topic,
        first=asked.first,
        last=last,
        to_the_end=asked.last is None,
        tenant_id=caller.tenant_id,
        project_id=caller.project_id,
    )
    async with acquire(pool) as connection:
        return await event_replays.create(
            connection, wanted, requested_by=caller.actor, by_command=False
        )


async def load_replay(pool: Pool, caller: Caller, replay_id: UUID) -> EventReplay:
    """A replay of the project. Raises :class:`ReplayNotFoundError`."""
    found = await event_replays.find(pool, caller.tenant_id, caller.project_id, replay_id)
    if found is None:
        raise ReplayNotFoundError(replay_id)
    return found


async def cancel_replay(pool: Pool, caller: Caller, replay_id: UUID) -> EventReplay:
    """Have it publish no more.

    Raises :class:`ReplayNotFoundError` and :class:`ReplayEndedError`.
    """
    await load_replay(pool, caller, replay_id)
    async with acquire(pool) as connection:
        ended = await event_replays.end(connection, replay_id, "cancelled")
    if ended is None:
        raise ReplayEndedError(replay_id)
    return ended
