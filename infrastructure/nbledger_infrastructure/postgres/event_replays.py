"""Replays of events: what was asked for, and how far each is."""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import msgspec

from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire

ReplayState = Literal["waiting", "running", "completed", "cancelled", "failed"]

COMMAND: Final = "command"
"""Who asked, of a replay by the command of an operator."""

_LOCKS: Final = 0x72_65706C
"""The space of the advisory locks that those hold who carry out a replay."""


class ReplayRange(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are published again, and to which topic.

    Positions from ``first`` to ``last``, both included, of one tenant or project, or of all.
    ``to_the_end`` says that no end was asked for, and ``last`` was the newest.
    """

    topic: str
    first: int
    last: int
    to_the_end: bool = False
    tenant_id: UUID | None = None
    project_id: UUID | None = None


class EventReplay(msgspec.Struct, frozen=True, kw_only=True):
    """A replay. The broker has everything up to ``position`` in the topic with the id."""

    replay_id: UUID
    asked: ReplayRange
    requested_by: str
    state: ReplayState
    position: int
    published: int
    topic_id: UUID | None
    restarts: int
    problem: str | None
    requested_at: datetime
    updated_at: datetime
    ended_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether nothing more is done."""
        return self.state not in {"waiting", "running"}


_COLUMNS: Final = """
    replay_id, topic, first_position, last_position, to_the_end, tenant_id, project_id,
    requested_by, state, position, published, topic_id, restarts, problem, requested_at,
    updated_at, ended_at
"""
_CREATE: Final = f"""
INSERT INTO event_replay (
    replay_id, topic, first_position, last_position, to_the_end, tenant_id, project_id,
    requested_by, by_command, position
) VALUES ($1, $2, $3::bigint, $4, $5, $6, $7, $8, $9, $3::bigint - 1) RETURNING {_COLUMNS}
"""  # noqa: S608 (constants)
_OF_PROJECT: Final = "tenant_id = $1 AND project_id = $2 AND NOT by_command"
_FIND: Final = f"SELECT {_COLUMNS} FROM event_replay WHERE {_OF_PROJECT} AND replay_id = $3"  # noqa: S608
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM event_replay WHERE {_OF_PROJECT}
ORDER BY requested_at DESC, replay_id DESC LIMIT $3 OFFSET $4
"""  # noqa: S608 (constants)
_COUNT: Final = f"""
SELECT count(*), count(*) FILTER (WHERE state IN ('waiting', 'running'))
FROM event_replay WHERE {_OF_PROJECT}
"""  # noqa: S608 (constants)
_UNFINISHED: Final = f"""
SELECT {_COLUMNS} FROM event_replay
WHERE by_command AND state IN ('waiting', 'running') AND topic = $1 AND first_position = $2
    AND to_the_end = $3 AND ($3 OR last_position = $4)
    AND tenant_id IS NOT DISTINCT FROM $5 AND project_id IS NOT DISTINCT FROM $6
ORDER BY requested_at DESC LIMIT 1
"""  # noqa: S608 (constants)
_NEXT: Final = f"""
SELECT {_COLUMNS} FROM event_replay WHERE state IN ('waiting', 'running') AND NOT by_command
ORDER BY requested_at LIMIT 1
"""  # noqa: S608 (constants)
_SET: Final = f"""
UPDATE event_replay SET {{}}, updated_at = clock_timestamp()
WHERE replay_id = $1 AND state IN ('waiting', 'running') RETURNING {_COLUMNS}
"""  # noqa: S608 (constants)
_BEGIN: Final = _SET.format("state = 'running', topic_id = $2, problem = NULL")
# The topic is another one than that which had the events: it gets them from the first one on.
_BEGIN_ANEW: Final = _SET.format(
    "state = 'running', topic_id = $2, position = first_position - 1, published = 0,"
    " restarts = restarts + 1, problem = NULL"
)
_MOVE: Final = _SET.format("position = $2, published = published + $3, problem = NULL")
_TELL: Final = _SET.format("problem = $2")
_END: Final = _SET.format("state = $2, problem = $3, ended_at = clock_timestamp()")


async def create(
    connection: PooledConnection, asked: ReplayRange, *, requested_by: str, by_command: bool
) -> EventReplay:
    """Ask for a replay."""
    row = await connection.fetchrow(
        _CREATE,
        *(new_id(), asked.topic, asked.first, asked.last, asked.to_the_end),
        *(asked.tenant_id, asked.project_id, requested_by, by_command),
    )
    assert row is not None  # noqa: S101 (it has been inserted)
    return _replay(tuple(row))


async def unfinished(connection: PooledConnection, asked: ReplayRange) -> EventReplay | None:
    """The same replay, which a command has begun and not ended."""
    row = await connection.fetchrow(
        _UNFINISHED,
        *(asked.topic, asked.first, asked.to_the_end, asked.last),
        *(asked.tenant_id, asked.project_id),
    )
    return None if row is None else _replay(tuple(row))


async def find(
    pool: Pool, tenant_id: UUID, project_id: UUID, replay_id: UUID
) -> EventReplay | None:
    """A replay that was asked for in the project."""
    async with acquire(pool) as connection:
        row = await connection.fetchrow(_FIND, tenant_id, project_id, replay_id)
    return None if row is None else _replay(tuple(row))


async def page(
    pool: Pool, tenant_id: UUID, project_id: UUID, *, limit: int, offset: int
) -> list[EventReplay]:
    """Replays that were asked for in the project, the newest first."""
    async with acquire(pool) as connection:
        rows = await connection.fetch(_PAGE, tenant_id, project_id, limit, offset)
    return [_replay(tuple(row)) for row in rows]


async def count(connection: PooledConnection, tenant_id: UUID, project_id: UUID) -> tuple[int, int]:
    """How many were asked for in the project, and how many of them have not ended."""
    row = await connection.fetchrow(_COUNT, tenant_id, project_id)
    return (0, 0) if row is None else (row[0], row[1])


async def topic_of_another_tenant(
    connection: PooledConnection, topic: str, tenant_id: UUID
) -> bool:
    """Whether somebody of another tenant has asked for a replay to the topic."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM event_replay"
        " WHERE topic = $1 AND tenant_id IS DISTINCT FROM $2)",
        *(topic, tenant_id),
    )
    return found


async def reread(connection: PooledConnection, replay_id: UUID) -> EventReplay | None:
    """The replay as it is now."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM event_replay WHERE replay_id = $1",  # noqa: S608 (constants)
        replay_id,
    )
    return None if row is None else _replay(tuple(row))


async def next_one(connection: PooledConnection) -> EventReplay | None:
    """The oldest replay that the relay has to carry out."""
    row = await connection.fetchrow(_NEXT)
    return None if row is None else _replay(tuple(row))


async def begin(
    connection: PooledConnection, replay: EventReplay, topic_id: UUID
) -> EventReplay | None:
    """Note which topic it goes to, from its first event on where that is another one.

    ``None`` where it has ended.
    """
    anew = replay.topic_id not in {None, topic_id}
    row = await connection.fetchrow(_BEGIN_ANEW if anew else _BEGIN, replay.replay_id, topic_id)
    return None if row is None else _replay(tuple(row))


async def move(
    connection: PooledConnection, replay_id: UUID, position: int, published: int
) -> EventReplay | None:
    """Note that the broker has everything up to a position; ``None`` where it has ended."""
    row = await connection.fetchrow(_MOVE, replay_id, position, published)
    return None if row is None else _replay(tuple(row))


async def tell(pool: Pool, replay_id: UUID, problem: str) -> None:
    """Note why it does not go on at the moment."""
    async with acquire(pool) as connection:
        await connection.execute(_TELL, replay_id, problem)


async def end(
    connection: PooledConnection, replay_id: UUID, state: ReplayState, problem: str | None = None
) -> EventReplay | None:
    """End it, unless it has ended."""
    row = await connection.fetchrow(_END, replay_id, state, problem)
    return None if row is None else _replay(tuple(row))


async def take(connection: PooledConnection, replay_id: UUID) -> bool:
    """Whether nobody else carries it out; then nobody does while the connection is open."""
    taken: bool = await connection.fetchval(
        "SELECT pg_try_advisory_lock($1, hashtext($2::text))", _LOCKS, str(replay_id)
    )
    return taken


def _replay(row: tuple[object, ...]) -> EventReplay:
    names = ("topic", "first", "last", "to_the_end", "tenant_id", "project_id")
    replay_id, *rest = row
    asked = dict(zip(names, rest, strict=False))
    others = EventReplay.__struct_fields__[2:]
    told = dict(zip(others, rest[len(names) :], strict=True))
    return msgspec.convert(
        {"replay_id": replay_id, "asked": ReplayRange(**asked), **told},  # type: ignore[arg-type]
        EventReplay,
    )
