"""Proofs: that an event is in the log, and that the log only ever grew."""

import base64
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Right
from nbledger_audit import logs, reading
from nbledger_audit.reading import ProvedEntry
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.transparency import merkle
from nbledger_http.description.documentation import JSON, Answer, Operation
from nbledger_http.endpoints.transparency_log import examples
from nbledger_http.endpoints.transparency_log.reading import FRESH, TAG, known_state, text_reply
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.requests import queries
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import guid, tenant_id_of
from nbledger_infrastructure.postgres.database import PooledConnection, acquire

RETRY_AFTER_SIGNING_SECONDS = 10


class InclusionQuery(msgspec.Struct, kw_only=True):
    """Which event is proved, and in which form."""

    event: Annotated[
        str, Meta(description="The id of the event. Either this or `position` is needed.")
    ] = ""
    position: Annotated[
        int,
        Meta(ge=1, le=queries.MAX_POSITION, description="The position of the event in the store."),
    ] = 0
    format: Annotated[
        Literal["json", "tlog-proof"], Meta(description="JSON, or a .tlog-proof to keep.")
    ] = "json"


class InclusionDocument(msgspec.Struct, rename="camel", kw_only=True):
    """That an entry is number `number` of the log of the checkpoint.

    `entry` is the text that is hashed, `hashes` are the proof of RFC 6962 from the leaf up, in
    base64, and `checkpoint` is a signed note.
    """

    number: int
    entry: str
    hashes: list[str]
    checkpoint: str


class ConsistencyQuery(msgspec.Struct, kw_only=True):
    """Which trees are compared, by their sizes."""

    from_: Annotated[
        int, Meta(ge=0, le=queries.MAX_POSITION, description="The size of the earlier tree.")
    ] = msgspec.field(name="from", default=0)
    to: Annotated[
        int,
        Meta(
            ge=1,
            le=queries.MAX_POSITION,
            description="The size of the later tree: by default, and at most, that of the newest "
            "checkpoint.",
        ),
    ] = 0


class ConsistencyDocument(msgspec.Struct, rename="camel", kw_only=True):
    """That the tree of `to` entries begins with that of the first `from` ones.

    `hashes` are the proof of RFC 6962 in base64, empty where `from` is 0 or `to`. `checkpoint` is
    the signed note of `to` entries; null where none was signed for just so many.
    """

    from_: int = msgspec.field(name="from")
    to: int
    hashes: list[str]
    checkpoint: str | None


@get(
    "/inclusion",
    right=Right.AUDIT,
    operation=Operation(
        id="proveInclusion",
        tag=TAG,
        summary="Prove that an event is in the log",
        description="The proof needs neither this service nor its database to be checked. The "
        ".tlog-proof (C2SP tlog-proof) has the entry in its extra data.",
        query=InclusionQuery,
        answers={
            200: Answer(
                description="The proof, in the newest checkpoint.",
                schema=InclusionDocument,
                media_types=(JSON, "text/plain"),
                example=examples.INCLUSION,
                headers={
                    "Content-Disposition": "Names a .tlog-proof.",
                    "Cache-Control": "For how long it may be kept.",
                },
            )
        },
        problems=(
            Code.LOG_NOT_FOUND,
            Code.EVENT_NOT_FOUND,
            Code.EVENT_NOT_SIGNED,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def prove_inclusion(request: Request[Any, Any, Any]) -> Reply:
    """The entry of an event, with its proof."""
    query = queries.checked(request, InclusionQuery)
    if bool(query.event) == bool(query.position):
        raise InvalidInputError([Fault("?event", "is required, or position in its place")])
    async with acquire(services_of(request).pool) as connection:
        await known_state(connection, request)
        proved = await _proved(connection, tenant_id_of(request), query)
    if query.format == "tlog-proof":
        proof = msgspec.structs.replace(proved.proof, extra=proved.entry)
        named = f'attachment; filename="{proved.proof.index}.tlog-proof"'
        return text_reply(str(proof), {**FRESH, "Content-Disposition": named})
    document = InclusionDocument(
        number=proved.proof.index,
        entry=proved.entry.decode(),
        hashes=_base64(proved.proof.hashes),
        checkpoint=str(proved.proof.checkpoint),
    )
    return json_reply(msgspec.json.encode(document), headers=FRESH)


async def _position(
    connection: PooledConnection, tenant_id: UUID, query: InclusionQuery
) -> int | None:
    """Where the event is; None where the tenant has none such."""
    if query.event:
        event_id = guid(query.event)
        return (
            None if event_id is None else await reading.position_of(connection, tenant_id, event_id)
        )
    found = await reading.is_of(connection, tenant_id, query.position)
    return query.position if found else None


async def _proved(
    connection: PooledConnection, tenant_id: UUID, query: InclusionQuery
) -> ProvedEntry:
    position = await _position(connection, tenant_id, query)
    if position is None:
        raise Problem(Code.EVENT_NOT_FOUND)
    proved = await reading.prove_entry(connection, tenant_id, position)
    if proved is None:
        retry = {"Retry-After": str(RETRY_AFTER_SIGNING_SECONDS)}
        raise Problem(Code.EVENT_NOT_SIGNED, headers=retry)
    return proved


@get(
    "/consistency",
    right=Right.AUDIT,
    operation=Operation(
        id="proveConsistency",
        tag=TAG,
        summary="Prove that the log only grew",
        description="Whoever has kept a checkpoint of `from` entries checks with it that nothing "
        "of what it covers was altered since.",
        query=ConsistencyQuery,
        answers={
            200: Answer(
                description="The proof.",
                schema=ConsistencyDocument,
                example=examples.CONSISTENCY,
                headers={"Cache-Control": "For how long it may be kept."},
            )
        },
        problems=(Code.LOG_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def prove_consistency(request: Request[Any, Any, Any]) -> Reply:
    """The hashes that lead from one tree to another."""
    query = queries.checked(request, ConsistencyQuery)
    tenant_id = tenant_id_of(request)
    async with acquire(services_of(request).pool) as connection:
        state = await known_state(connection, request)
        to = query.to or state.size
        _check_sizes(query, to, state.size)
        hashes = await logs.prove(connection, tenant_id, merkle.consistency(query.from_, to))
        checkpoint = await logs.checkpoint(connection, tenant_id, to)
    document = ConsistencyDocument(
        from_=query.from_, to=to, hashes=_base64(hashes), checkpoint=checkpoint
    )
    return json_reply(msgspec.json.encode(document), headers=FRESH)


def _check_sizes(query: ConsistencyQuery, to: int, signed: int) -> None:
    """Raise ``InvalidInputError`` for sizes between which nothing can be proved."""
    faults = []
    if to > signed:
        faults.append(Fault("?to", f"must be at most {signed}, the size of the newest checkpoint"))
    elif query.from_ > to:
        faults.append(Fault("?from", f"must be at most {to}, the size of the later tree"))
    if faults:
        raise InvalidInputError(faults)


def _base64(hashes: tuple[bytes, ...] | list[bytes]) -> list[str]:
    return [base64.b64encode(each).decode() for each in hashes]


HANDLERS: list[Any] = [prove_inclusion, prove_consistency]
