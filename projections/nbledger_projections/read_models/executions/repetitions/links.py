"""Which executions repeat others, as of now: what the read model knows, and what came since.

Requests are taken apart here: PostgreSQL takes no JSON apart that has NUL in a text anywhere, as
parameters may.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from nbledger_domain.execution import REQUESTED_CAUSE, Cause
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_projections.read_models.executions.documents import RepetitionDocument

_REQUESTS: Final = """
    e.subject_id = $3 AND e.tenant_id = $1 AND e.project_id = $2 AND e.type = ANY($5)
    AND e.data IS NOT NULL
"""
"""Of requests of notebook $3.

$1 is the tenant, $2 the project, $5 the names that requests are stored under.
"""

_SINCE: Final = """
    e.position > coalesce((SELECT position FROM projection_checkpoint WHERE name = $6), 0)
"""
"""Of events that the read model $6 does not hold yet."""


def _repetitions(projected: str = "", recorded: str = f"AND {_SINCE}") -> str:
    """A list of those that repeat execution $4, within bounds of what is projected and recorded."""
    return f"""(
        SELECT json_agg(
            json_build_object('executionId', execution_id, 'kind', kind, 'request', request)
            ORDER BY requested_position
        )
        FROM (
            SELECT execution_id, repeats_as AS kind, NULL AS request, requested_position
            FROM execution_status
            WHERE repeats = $4 {projected}
            UNION ALL
            SELECT e.stream_id, NULL, e.data::text, e.position FROM event AS e
            WHERE {_REQUESTS} {recorded}
                AND e.data::text LIKE '%"executionId":"' || $4::uuid::text || '"%'
        ) AS found
    )"""  # noqa: S608 (constants)


REPETITIONS: Final = _repetitions()
"""Those that repeat execution $4, for :func:`repetitions`; NULL without any."""

REPETITIONS_THEN: Final = _repetitions(
    "AND requested_position <= $7",
    # A bound to seek to, as these may be few of very many events.
    """AND e.position <= $7 AND e.position > CASE
            WHEN EXISTS (SELECT FROM execution_status WHERE execution_id = $4) THEN coalesce(
                (SELECT position FROM projection_checkpoint WHERE name = $6), 0
            ) ELSE 0
        END""",
)
"""Those of them that were asked for up to position $7.

The read model may have let go of all of them, as their notebook is deleted.
"""

_RECENT: Final = f"""
    SELECT e.stream_id, e.data::text FROM event AS e
    WHERE {_REQUESTS.replace("$5", "$4")} AND {_SINCE.replace("$6", "$5")}
        AND e.data::text LIKE '%"cause":%'
"""  # noqa: S608 (constants)


class _Request(msgspec.Struct):
    """What a request says of why there is a run."""

    cause: Cause = REQUESTED_CAUSE


class _Found(msgspec.Struct, rename="camel"):
    execution_id: str
    kind: str | None
    request: str | None


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_found = msgspec.json.Decoder(list[_Found]).decode


def repetitions(found: str | None, execution_id: UUID) -> list[RepetitionDocument]:
    """What the statement has ``found``, without what only looks like it."""
    told = []
    for each in _decode_found(found or "[]"):
        kind = each.kind
        if each.request is not None:
            cause = _decode_request(each.request).cause
            kind = cause.kind if cause.execution_id == execution_id else None
        if kind is not None:
            told.append(repetition(each.execution_id, kind))
    return told


def repetition(execution_id: str, kind: str) -> RepetitionDocument:
    """The link to an execution that repeats another one."""
    return RepetitionDocument(execution_id, "repair" if kind == "repair" else "rerun")


async def recent(
    connection: PooledConnection,
    notebook: tuple[UUID, UUID, UUID],
    requested: Sequence[str],
    name: str,
) -> list[tuple[UUID, UUID]]:
    """Executions that the read model does not hold yet, each with the one that it repeats.

    ``notebook`` has tenant, project and notebook, ``requested`` the names that requests are stored
    under.
    """
    links = []
    for execution_id, request in await connection.fetch(_RECENT, *notebook, requested, name):
        repeats = _decode_request(request).cause.execution_id
        if repeats is not None:
            links.append((execution_id, repeats))
    return links
