"""All events of a project or tenant: in pages, as they happen, or as a whole."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Right
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.histories import HistoryKind
from nbledger_domain.vocabulary.addresses import ALL_PROJECTS
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.endpoints.execution_events import HEADERS, LAST_EVENT_ID
from nbledger_http.endpoints.histories import asking, examples
from nbledger_http.endpoints.histories.asking import Actor, After, Limit, Types
from nbledger_http.endpoints.histories.pushing import EventPusher, zipped
from nbledger_http.replies.negotiation import preferred, takes_gzip
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, header_list, json_reply
from nbledger_http.representations.event_streams import TokenWatch
from nbledger_http.representations.streaming import LiveReply
from nbledger_http.requests import queries
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of
from nbledger_infrastructure.postgres.database import acquire
from nbledger_infrastructure.postgres.event_store import moments
from nbledger_projections.read_models.histories.entries import HistoryEntry
from nbledger_projections.read_models.histories.pages import PAGE_BYTES
from nbledger_projections.read_models.histories.selection import LAST, Between
from nbledger_projections.read_models.histories.windows import Feed

JSON_LINES: Final = "application/x-ndjson"
EVENT_STREAM: Final = "text/event-stream"
PAGE: Final = 100
"""How many events a page has at most, where nothing is asked for."""

WINDOWS_PER_PAGE: Final = 10
"""A page looks at so many windows of events at most for such as meet its filter."""

VARY: Final = {"Vary": "Accept, Accept-Encoding"}

Form = Literal["json", "jsonl", "sse"]

_FORMS: Final[dict[str, Form]] = {
    "application/json": "json",
    JSON_LINES: "jsonl",
    "application/jsonl": "jsonl",
    "application/ndjson": "jsonl",
    EVENT_STREAM: "sse",
}

_Ids = Annotated[str, Meta(max_length=4000)]


class FeedQuery(msgspec.Struct, kw_only=True):
    """Which events of a project are told, from where on, and in which form."""

    after: After = 0
    until: (
        Annotated[
            int,
            Meta(ge=0, le=queries.MAX_POSITION, description="Only events up to this position."),
        ]
        | None
    ) = None
    limit: (
        Annotated[
            Limit, Meta(description="How many events a page has, or JSON Lines have, at most.")
        ]
        | None
    ) = None
    type: Types = None
    actor: Actor = None
    stream: (
        Annotated[
            _Ids,
            Meta(description="Only events of these streams, by ids with commas between."),
        ]
        | None
    ) = None
    tag: (
        Annotated[
            _Ids,
            Meta(
                description="Only events of executions that were asked for with one of these tags, "
                f"with commas between. {asking.QUOTED}"
            ),
        ]
        | None
    ) = None
    since: (
        Annotated[asking.Time, Meta(description="Only events recorded then or later.")] | None
    ) = msgspec.field(name="from", default=None)
    to: Annotated[asking.Time, Meta(description="Only events recorded before then.")] | None = None
    form: (
        Annotated[
            Form,
            Meta(
                description="json: a page. jsonl: all of them as JSON Lines. sse: server-sent "
                "events, which go on. Without it the header Accept decides."
            ),
        ]
        | None
    ) = msgspec.field(name="format", default=None)


class EventPage(msgspec.Struct, kw_only=True):
    """Events in order. All that were asked for up to `position` are among them or before them.

    Where there are more, `next` is the `after` to ask with; later ask after `position`.
    """

    events: list[HistoryEntry]
    position: int
    next: int | None


def _operation(operation_id: str, whose: str) -> Operation:
    return Operation(
        id=operation_id,
        tag="History",
        summary=f"Read all events of {whose}",
        description="In order of positions and without a gap, whoever goes on after the last "
        "`position`. As JSON they come in pages, which may be short or empty while `next` is "
        "there. As JSON Lines (`Accept: application/x-ndjson`) they come in one answer, up to the "
        "last one at its beginning; its last line says where it ended, and whether that is all: "
        '`{"end":{"position":4711,"until":4711,"events":12,"complete":true,"reason":null}}`. As '
        "server-sent events (`Accept: text/event-stream`) they go on as they happen. What was cut "
        "off goes on with `after`, or the header Last-Event-ID, from the last position that "
        "arrived. JSON Lines are compressed where gzip is accepted. That you read is recorded.",
        query=FeedQuery,
        headers=(LAST_EVENT_ID,),
        answers={
            200: Answer(
                description="The events.",
                schema=EventPage,
                media_types=("application/json", JSON_LINES, EVENT_STREAM),
                example=examples.EVENT_PAGE,
                headers=VARY,
            )
        },
        problems=(Code.PROJECT_NOT_FOUND, Code.VALIDATION_FAILED),
    )


@get("/events", right=Right.AUDIT, operation=_operation("readEvents", "a project"))
async def project_events(request: Request[Any, Any, Any]) -> Reply:
    """Events of the project."""
    return await _events(request)


@get("/", right=Right.AUDIT, operation=_operation("readTenantEvents", "a tenant"))
async def tenant_events(request: Request[Any, Any, Any]) -> Reply:
    """Events of all projects of the tenant."""
    return await _events(request)


async def _events(request: Request[Any, Any, Any]) -> Reply:
    services, access = services_of(request), access_of(request)
    query = queries.checked(request, FeedQuery)
    narrow = await asking.filter_of(
        request, types=query.type, actor=query.actor, streams=query.stream, tags=query.tag
    )
    begin, pointer = _after(request, query)
    if query.until is not None and query.until < begin:
        raise InvalidInputError([Fault("?until", "is less than after")])
    bounds = Between(after=begin, before=LAST if query.until is None else query.until + 1)
    bounds = await asking.narrowed(services, bounds, query.since, query.to, pointer=pointer)
    feed = Feed(tenant_id=access.tenant_id, project_id=access.project_id, filter=narrow)
    history: HistoryKind = "tenant" if access.project_id == ALL_PROJECTS else "project"
    token = TokenWatch(services, request.headers.get("authorization"))
    pusher = EventPusher(services, access, feed, history, token)
    form = query.form or _FORMS[preferred(request, list(_FORMS))]
    if form == "jsonl":
        if begin:
            # Recorded first: who goes on again after this export does not find the record as news.
            await services.history_reads.record(access, history, None, "export")
            until = await _last(services, bounds)
        else:
            until = await _last(services, bounds)
            await services.history_reads.record(
                access, history, None, "export", after=bounds.after, until=until
            )
        return _export(request, pusher.export(bounds.after, until, query.limit))
    if form == "sse":
        _no_end(query)
        await services.history_reads.record(access, history, None, "stream")
        return LiveReply(200, [*HEADERS, *header_list(VARY)], pusher.follow(bounds.after))
    await services.history_reads.record(access, history, None)
    return await _page(pusher, bounds, query.limit or PAGE)


async def _last(services: Services, bounds: Between) -> int:
    """The last position that an export tells of."""
    async with acquire(services.pool) as connection:
        until = min(bounds.before - 1, await moments.head(connection))
    return max(until, bounds.after)


async def _page(pusher: EventPusher, bounds: Between, limit: int) -> Reply:
    entries: list[HistoryEntry] = []
    position, done, size = bounds.after, False, 0
    for _ in range(WINDOWS_PER_PAGE):
        found = await pusher.read(position, until=bounds.before - 1, limit=limit - len(entries))
        entries += found.entries
        position, done = found.position, found.all
        size += sum(len(bytes(entry.data)) for entry in found.entries)
        if done or len(entries) >= limit or size > PAGE_BYTES:
            break
    told = EventPage(events=entries, position=position, next=None if done else position)
    return json_reply(msgspec.json.encode(told), headers=VARY)


def _export(request: Request[Any, Any, Any], pieces: AsyncGenerator[bytes]) -> Reply:
    headers = {
        "Content-Type": f"{JSON_LINES}; charset=utf-8",
        "Content-Disposition": 'attachment; filename="events.jsonl"',
        "Cache-Control": "no-store, no-transform",
        "X-Accel-Buffering": "no",
        "X-Content-Type-Options": "nosniff",
        **VARY,
    }
    if takes_gzip(request):
        headers["Content-Encoding"] = "gzip"
        pieces = zipped(pieces)
    return LiveReply(200, header_list(headers), pieces)


def _after(request: Request[Any, Any, Any], query: FeedQuery) -> tuple[int, str]:
    """The position of the last event that the client has, and where it says so.

    Its header counts before the query.
    """
    last_event_id = request.headers.get("last-event-id", "").strip()
    if not last_event_id:
        return query.after, "?after"
    found = queries.position(last_event_id)
    if found is None:
        raise InvalidInputError(
            [Fault("Last-Event-ID", "must be the id of an event: a whole number")]
        )
    return found, "Last-Event-ID"


def _no_end(query: FeedQuery) -> None:
    """Server-sent events go on. Raises :class:`InvalidInputError` for what would end them."""
    given = {"?until": query.until, "?to": query.to, "?limit": query.limit}
    faults = [
        Fault(name, "cannot be asked for of server-sent events, which go on")
        for name, value in given.items()
        if value is not None
    ]
    if faults:
        raise InvalidInputError(faults)


PROJECT_HANDLERS: list[Any] = [project_events]
TENANT_HANDLERS: list[Any] = [tenant_events]
