"""Reading what a read model would have shown at an earlier position, by its own fold."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, Literal, TypeVar, cast
from uuid import UUID

import asyncpg
import msgspec

from nbledger_domain.past.errors import (
    CreatedLaterError,
    DeletedBeforeError,
    ErasedError,
)
from nbledger_domain.past.moments import AsOf, AtTime, AtVersion
from nbledger_domain.transparency.erasures import ENDINGS
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import Metadata
from nbledger_infrastructure.postgres.event_store.moments import Moment, find, settled
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event
from nbledger_projections.machinery.one_moment import one_moment
from nbledger_projections.machinery.read_model import ReadModel

R = TypeVar("R")

Order = Literal["position", "version"]

_EVENT_COLUMNS: Final = COLUMNS.split(", ")

# A deletion is asked for and done by the last events of a stream.
_STANDING: Final = """
SELECT
    f.position, f.recorded_at, d.position AS deletion, d.recorded_at AS deleted_at, d.metadata,
    (SELECT erased_at FROM erasure WHERE subject_id = $2) AS erased_at
FROM event AS f
LEFT JOIN LATERAL (
    SELECT * FROM (
        SELECT position, type, recorded_at, metadata FROM event
        WHERE stream_id = $2 ORDER BY version DESC LIMIT 2
    ) AS last
    WHERE type = ANY($3) ORDER BY position LIMIT 1
) AS d ON true
WHERE f.stream_id = $1 AND f.version = 1 AND f.subject_id = $2
    AND f.tenant_id = $4 AND f.project_id = $5 AND f.type LIKE $6
"""

_decode_metadata = msgspec.json.Decoder(Metadata).decode


class Place(msgspec.Struct, frozen=True):
    """A stream of a project: ``subject_id`` is what it goes with, ``what`` names its kind."""

    tenant_id: UUID
    project_id: UUID
    subject_id: UUID
    stream_id: UUID
    what: Literal["notebook", "execution", "dataset"]


class AbsentError(Exception):
    """There is no such stream in the project."""


@asynccontextmanager
async def reading(
    pool: Pool, place: Place, wanted: AsOf, tables: Sequence[str]
) -> AsyncIterator[tuple[PooledConnection, Moment]]:
    """Lend a connection that sees one state of the store throughout, and tell the moment.

    ``tables`` are those that are read by it and that a rebuild may exchange. What is at the place
    existed then. Raises :class:`AbsentError`, :class:`LaterThanNowError`,
    :class:`NotebookVersionNotFoundError`, :class:`CreatedLaterError`, :class:`DeletedBeforeError`
    and :class:`ErasedError`.
    """
    if isinstance(wanted, AtTime):
        async with acquire(pool) as connection:
            await settled(connection, wanted)
    async with one_moment(pool, tables) as connection:
        standing = await connection.fetchrow(
            _STANDING,
            place.stream_id,
            place.subject_id,
            ENDINGS,
            place.tenant_id,
            place.project_id,
            f"{place.what}.%",
        )
        if standing is None:
            raise AbsentError
        if isinstance(wanted, AtVersion) and standing["erased_at"] is not None:
            raise _erased(place, standing)
        moment = await find(connection, wanted, place.stream_id)
        _check(place, standing, moment)
        yield connection, moment


def _check(place: Place, standing: asyncpg.Record, moment: Moment) -> None:
    """Raise where what is at the place did not exist at the moment, or is erased."""
    created, deletion = standing["position"], standing["deletion"]
    if created > moment.position:
        raise CreatedLaterError(place.what, standing["recorded_at"], created)
    if deletion is not None and deletion <= moment.position:
        raise DeletedBeforeError(place.what, standing["deleted_at"], deletion)
    if standing["erased_at"] is not None:
        raise _erased(place, standing)


def _erased(place: Place, row: asyncpg.Record) -> ErasedError:
    metadata = row["metadata"]
    deleted_by = None if metadata is None else _decode_metadata(metadata).responsible
    return ErasedError(place.what, row["erased_at"], deleted_by, row["deletion"])


class PastRead(Generic[R]):
    """Reads one row of a read model that keeps snapshots, as of a position.

    The newest snapshot before it that is of today's format, and the events since, are read in one
    statement. In the ``order`` of positions these are all events of the row's subject, in that of
    versions those of its stream.
    """

    def __init__(self, model: ReadModel[R], *, order: Order) -> None:
        assert model.snapshots is not None  # noqa: S101 (declared so)
        self._fold, self._row = model.fold, model.snapshots.row
        name, key = model.snapshots.name, model.snapshots.key
        self._format = model.snapshots.format
        if order == "position":
            those = "e.subject_id = $1 AND e.position > coalesce(s.position, 0)"
        else:
            # The next snapshot keeps the events that come later from being looked at.
            following = (
                f"SELECT position FROM {name} WHERE {key} = $1 AND position > $2"  # noqa: S608
                " ORDER BY position LIMIT 1"
            )
            version = "SELECT version FROM event WHERE position ="
            those = f"""
                e.stream_id = $1 AND e.version > coalesce(({version} s.position), 0)
                AND e.version <= coalesce(({version} ({following})), 2147483647)
            """
        told = ", ".join(f"e.{column}" for column in _EVENT_COLUMNS)
        self._statement = f"""
            SELECT s.position AS snapshot,
                CASE WHEN row_number() OVER (ORDER BY e.{order}) = 1 THEN s.state END, {told}
            FROM (SELECT) AS one
            LEFT JOIN (
                SELECT position, state FROM {name}
                WHERE {key} = $1 AND position <= $2 AND format = $3
                ORDER BY position DESC LIMIT 1
            ) AS s ON true
            LEFT JOIN LATERAL (
                SELECT {COLUMNS} FROM event AS e WHERE {those} AND e.position <= $2
            ) AS e ON true
            ORDER BY e.{order}
        """  # noqa: S608 (constants of this package)

    async def get(
        self, connection: PooledConnection, key: UUID, moment: Moment, **given: Any
    ) -> R | None:
        """The row as it was; ``given`` is what its fold takes beside events."""
        found = await connection.fetch(self._statement, key, moment.position, self._format)
        row = None if found[0][0] is None else cast("R", self._row(found[0][1]))
        for record in found:
            if record[2] is not None:
                recorded = recorded_event(cast("asyncpg.Record", record[2:]))
                extra = given if recorded.type in self._fold.created else {}
                row = self._fold(row, recorded, **extra)
        return row
