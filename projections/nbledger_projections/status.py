"""How far every consumer of the events is, and what is being built anew."""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_projections.rebuilding import tables
from nbledger_projections.rebuilding.progress import percent, seconds_left
from nbledger_projections.registry import READ_MODELS

State = Literal["live", "rebuilding", "verifying", "interrupted"]


class RebuildStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How far tables are that are being built anew; `secondsLeft` is estimated."""

    phase: str
    position: int
    target: int
    percent: int
    per_second: float | None
    seconds_left: float | None
    started_at: datetime


class ConsumerStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How far a consumer of the events is: a projection, or what else follows them.

    `position` is that of the last event it has handled. It is behind by `lagEvents`, the first of
    which was recorded `lagSeconds` ago. `perSecond` are the events of the last minute. `state` is
    live, or what is done to its tables beside; interrupted says that whoever did that has died.
    """

    name: str
    kind: Literal["projection", "consumer"]
    state: State
    position: int
    lag_events: int
    lag_seconds: float
    per_second: float
    updated_at: datetime | None
    rebuild: RebuildStatus | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How far all consumers are; `position` is that of the last event there is."""

    position: int
    consumers: list[ConsumerStatus]


_STATUS: Final = f"""
SELECT coalesce(c.name, told.name) AS name, told.name IS NOT NULL AS is_projection,
    coalesce(c.position, 0) AS position, c.updated_at,
    (SELECT coalesce(max(position), 0) FROM event) AS head,
    coalesce((
        SELECT greatest(extract(epoch FROM clock_timestamp() - recorded_at), 0)
        FROM event WHERE position > coalesce(c.position, 0) ORDER BY position LIMIT 1
    ), 0)::double precision AS lag_seconds,
    coalesce((
        SELECT greatest(c.position - m.mark, 0) / 60.0
        FROM unnest(c.marks, c.marks_at) AS m (mark, at)
        WHERE m.at > clock_timestamp() - interval '60 s' ORDER BY m.at LIMIT 1
    ), 0)::double precision AS per_second,
    r.purpose, r.phase, r.position AS built, r.target, r.per_second AS pace, r.started_at,
    r.name IS NOT NULL AND ({tables.HELD.replace("$1", "r.name")}) AS is_held
FROM unnest($1::text[]) WITH ORDINALITY AS told (name, place)
FULL JOIN projection_checkpoint AS c ON c.name = told.name
LEFT JOIN projection_rebuild AS r ON r.name = told.name
ORDER BY told.place, c.name
"""  # noqa: S608 (constants)


async def status(pool: Pool) -> Status:
    """How far all consumers are: projections first, then those that have a position beside them."""
    async with acquire(pool) as connection:
        rows = await connection.fetch(_STATUS, list(READ_MODELS))
    return Status(position=rows[0]["head"], consumers=[_consumer(row) for row in rows])


def _consumer(row: Any) -> ConsumerStatus:
    return ConsumerStatus(
        name=row["name"],
        kind="projection" if row["is_projection"] else "consumer",
        state=_state(row),
        position=row["position"],
        lag_events=max(row["head"] - row["position"], 0),
        lag_seconds=round(row["lag_seconds"], 1),
        per_second=round(row["per_second"], 1),
        updated_at=row["updated_at"],
        rebuild=_rebuild(row) if row["purpose"] else None,
    )


def _state(row: Any) -> State:
    if row["purpose"] is None:
        return "live"
    if not row["is_held"]:
        return "interrupted"
    return "rebuilding" if row["purpose"] == "rebuild" else "verifying"


def _rebuild(row: Any) -> RebuildStatus:
    return RebuildStatus(
        phase=row["phase"],
        position=row["built"],
        target=row["target"],
        percent=percent(row["built"], row["target"]),
        per_second=row["pace"],
        seconds_left=seconds_left(row["built"], row["target"], row["pace"]),
        started_at=row["started_at"],
    )
