"""Libraries that a project has uploaded, found among the events: as of now, by their names."""

from collections.abc import Iterable
from uuid import UUID

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import Version

from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import Representation
from nbledger_domain.library import Library
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event

# A library has one event, until it is deleted. The index is that of the names alone.
_HELD = f"""
SELECT {COLUMNS} FROM event AS e
WHERE e.type = '{Library.Uploaded.TYPE}' AND e.tenant_id = $1 AND e.project_id = $2
    AND e.data ->> 'name' = ANY($3)
    AND NOT EXISTS (
        SELECT FROM event AS later WHERE later.stream_id = e.stream_id AND later.version > 1
    )
ORDER BY e.position
"""  # noqa: S608 (constants)


class Upload(msgspec.Struct, frozen=True):
    """A library that is held; ``content`` is its wheel, in ``scope``."""

    library_id: UUID
    name: str
    version: str
    file_name: str
    content: Representation
    scope: Scope


async def held(
    connection: PooledConnection, tenant_id: UUID, project_id: UUID, names: Iterable[str]
) -> list[Upload]:
    """Every version of the project's libraries of these normalised names, oldest upload first."""
    rows = await connection.fetch(_HELD, tenant_id, project_id, sorted(set(names)))
    found: list[Upload] = []
    for recorded in map(recorded_event, rows):
        event = decode(recorded)
        assert isinstance(event, Library.Uploaded)  # noqa: S101 - so is the statement
        found.append(
            Upload(
                library_id=recorded.stream_id,
                name=event.name,
                version=event.library_version,
                file_name=event.file_name,
                content=event.content,
                scope=Scope(tenant_id, project_id, recorded.stream_id),
            )
        )
    return found


async def deleted(store: EventStore, library_ids: Iterable[UUID]) -> set[UUID]:
    """Those of the libraries that were deleted. Raises :class:`StoreUnavailableError`."""
    async with store.reading() as connection:
        rows = await connection.fetch(
            "SELECT stream_id FROM event WHERE stream_id = ANY($1) AND type = ANY($2)",
            sorted(set(library_ids)),
            EVENT_TYPES.stored_names(Library.Deleted.TYPE),
        )
    return {row[0] for row in rows}


async def newest(
    store: EventStore, tenant_id: UUID, project_id: UUID, names: Iterable[str]
) -> dict[str, Upload]:
    """The newest version of each library that the project holds, by the name it is asked for.

    Raises :class:`StoreUnavailableError`.
    """
    normal = {name: str(canonicalize_name(name.strip())) for name in names}
    if not normal:
        return {}
    async with store.reading() as connection:
        uploads = await held(connection, tenant_id, project_id, normal.values())
    # Of equal versions, which two wheels may have, the last upload counts.
    found = {
        upload.name: upload for upload in sorted(uploads, key=lambda each: Version(each.version))
    }
    return {name: found[each] for name, each in normal.items() if each in found}
