"""Timestamps of checkpoints: who says since when the log was so."""

import base64
from typing import Any

import msgspec
from litestar import Request, get

from nbledger_application.caller import Right
from nbledger_audit import reading
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.endpoints.transparency_log import examples
from nbledger_http.endpoints.transparency_log.reading import FRESH, TAG, known_state
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.requests import queries
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import tenant_id_of
from nbledger_infrastructure.postgres.database import acquire
from nbledger_projections.read_models.humanize import timestamp


class TimestampDocument(msgspec.Struct, rename="camel", kw_only=True):
    """That the text of a checkpoint was there at a time, says an authority (RFC 3161).

    `checkpoint` is a signed note of `size` entries; what is stamped is its text, which is all above
    the empty line. `response` is the authority's answer in base64 (TimeStampResp in DER).
    """

    size: int
    at: str
    checkpoint: str
    response: str


class TimestampsDocument(msgspec.Struct, rename="camel", kw_only=True):
    """Timestamps of a log's checkpoints, the newest first."""

    items: list[TimestampDocument]


@get(
    "/timestamps",
    right=Right.AUDIT,
    operation=Operation(
        id="listTimestamps",
        tag=TAG,
        summary="List the timestamps of the log",
        description="By an authority outside, where the operator has named one. What is recorded "
        "later cannot be dated back before them unseen: docs/proofs.md has the rule.",
        query=queries.Paging,
        answers={
            200: Answer(
                description="The timestamps; none where there is no authority.",
                schema=TimestampsDocument,
                example=examples.TIMESTAMPS,
                headers={"Cache-Control": "For how long it may be kept."},
            )
        },
        problems=(Code.LOG_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_timestamps(request: Request[Any, Any, Any]) -> Reply:
    """A page of timestamps."""
    paging = queries.checked(request, queries.Paging)
    async with acquire(services_of(request).pool) as connection:
        await known_state(connection, request)
        found = await reading.timestamps(
            connection,
            tenant_id_of(request),
            limit=paging.page_size,
            offset=(paging.page - 1) * paging.page_size,
        )
    items = [
        TimestampDocument(
            size=each.size,
            at=timestamp(each.stamped_at),
            checkpoint=each.note,
            response=base64.b64encode(each.response).decode(),
        )
        for each in found
    ]
    return json_reply(msgspec.json.encode(TimestampsDocument(items=items)), headers=FRESH)


HANDLERS: list[Any] = [list_timestamps]
