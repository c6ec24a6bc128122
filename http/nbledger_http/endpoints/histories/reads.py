"""Who has read which history, and when."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Right
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.histories import HistoryKind, HistoryRead, Manner
from nbledger_domain.vocabulary.addresses import ALL_PROJECTS
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.endpoints.histories import asking, examples
from nbledger_http.endpoints.histories.asking import HistoryQuery
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations.principals import named
from nbledger_http.requests import queries
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of, guid
from nbledger_projections.read_models.histories import pages
from nbledger_projections.read_models.histories.entries import HistoryEntry
from nbledger_projections.read_models.histories.selection import Selection

# As the index has it.
_READS: Final = f"type = '{HistoryRead.Read.TYPE}' AND tenant_id = {{}}"


class ReadsQuery(HistoryQuery, rename="camel", kw_only=True):
    """Which records are told."""

    subject_id: (
        Annotated[
            str,
            Meta(
                description="Only of the history of this notebook, execution, dataset or the like."
            ),
        ]
        | None
    ) = None


class ReadRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """That a principal has read a history.

    `history` says of what, `subjectId` of which one; null for all of a project or tenant. `manner`
    is how: in pages, as a stream, as an export, or as a state of the past. `time` is when it began;
    more of the same may have been read until the end of the `hour`. A whole export has a record of
    its own: `after` and `until` are the positions that it lies between. They are null otherwise,
    also of exports that go on from a position. `projectId` is null where all of the tenant were
    read.
    """

    position: int
    time: str
    actor: str
    actor_id: str
    request_id: str | None
    project_id: UUID | None
    history: HistoryKind
    subject_id: UUID | None
    manner: Manner
    hour: datetime
    after: int | None
    until: int | None


class ReadRecords(msgspec.Struct, kw_only=True):
    """Records in order; where there are more, `next` is what to ask with, as in a history."""

    reads: list[ReadRecord]
    next: int | None


class _Told(msgspec.Struct, rename="camel"):
    history: HistoryKind
    manner: Manner
    hour: datetime
    subject_id: UUID | None = None
    after: int | None = None
    until: int | None = None


_decode: Final = msgspec.json.Decoder(_Told).decode


def _operation(operation_id: str, whose: str) -> Operation:
    return Operation(
        id=operation_id,
        tag="History",
        summary=f"List who has read histories of {whose}",
        description="Each reading of a history is recorded before it is answered: of one "
        "principal, history and manner once an hour, of whole exports each. Records are events, "
        "and proved as all others are. That you read them is recorded as well.",
        query=ReadsQuery,
        answers={
            200: Answer(
                description="The records, in order.", schema=ReadRecords, example=examples.READS
            )
        },
        problems=(Code.PROJECT_NOT_FOUND, Code.VALIDATION_FAILED),
    )


@get(
    "/history-reads",
    right=Right.AUDIT,
    operation=_operation("listHistoryReads", "a project"),
)
async def project_reads(request: Request[Any, Any, Any]) -> Reply:
    """Records of the project."""
    return await _reads(request)


@get("/", right=Right.AUDIT, operation=_operation("listTenantHistoryReads", "a tenant"))
async def tenant_reads(request: Request[Any, Any, Any]) -> Reply:
    """Records of all projects of the tenant."""
    return await _reads(request)


async def _reads(request: Request[Any, Any, Any]) -> Reply:
    services, access = services_of(request), access_of(request)
    query = queries.checked(request, ReadsQuery)
    narrow = await asking.filter_of(request, types=query.type, actor=query.actor)
    conditions: list[tuple[str, Any]] = [(_READS, access.tenant_id)]
    if access.project_id != ALL_PROJECTS:
        conditions.append(("project_id = {}", access.project_id))
    if query.subject_id is not None:
        conditions.append(("data ->> 'subjectId' = {}", _id_in(query.subject_id)))
    found = await pages.page(
        services.pool,
        access.tenant_id,
        Selection(*conditions, index={"tenant_id": access.tenant_id}),
        bounds=await asking.bounds_of(services, query),
        filter=narrow,
        order=query.order,
        limit=query.limit,
    )
    await services.history_reads.record(access, "reads", None)
    shown = await named(services.names, access.tenant_id, found.entries)
    told = ReadRecords(
        reads=[_record(entry) for entry in shown],
        next=shown[-1].position if found.more else None,
    )
    return json_reply(msgspec.json.encode(told))


def _id_in(text: str) -> str:
    found = guid(text)
    if found is None:
        raise InvalidInputError([Fault("?subjectId", "must be an id")])
    return str(found)


def _record(entry: HistoryEntry) -> ReadRecord:
    told = _decode(entry.data)
    return ReadRecord(
        position=entry.position,
        time=entry.time,
        actor=entry.actor,
        actor_id=entry.actor_id,
        request_id=entry.request_id,
        project_id=None if entry.project_id == ALL_PROJECTS else entry.project_id,
        history=told.history,
        subject_id=told.subject_id,
        manner=told.manner,
        hour=told.hour,
        after=told.after,
        until=told.until,
    )


PROJECT_HANDLERS: list[Any] = [project_reads]
TENANT_HANDLERS: list[Any] = [tenant_reads]
