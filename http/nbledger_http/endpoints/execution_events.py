"""The events of an execution as they happen, pushed to the client (server-sent events)."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Caller, Right
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_http.description import execution_examples
from nbledger_http.description.documentation import Answer, Header, Operation
from nbledger_http.endpoints.executions import TAG, TERMINAL
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, empty_reply, header_list
from nbledger_http.representations import resources
from nbledger_http.representations.event_streams import Batch, TokenWatch, frame, pushed
from nbledger_http.representations.principals import named
from nbledger_http.representations.streaming import LiveReply
from nbledger_http.requests import queries
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, execution_id_of, notebook_id_of
from nbledger_projections.read_models.histories import pages, selection
from nbledger_projections.read_models.histories.selection import Between

EVENTS_PER_READ = 100

HEADERS = header_list(
    {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-store, no-transform",
        "X-Accel-Buffering": "no",
        "X-Content-Type-Options": "nosniff",
    }
)

LAST_EVENT_ID = Header(
    name="Last-Event-ID",
    description="The id of the last event that was received: the stream goes on after it.",
    type="integer",
    minimum=0,
)


class FollowQuery(msgspec.Struct):
    """Where a stream of events begins."""

    after: Annotated[
        int,
        Meta(
            ge=0,
            le=queries.MAX_POSITION,
            description="The same as Last-Event-ID, for clients that cannot set the header, which "
            "counts before it.",
        ),
    ] = 0


@get(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}/events",
    right=Right.READ,
    operation=Operation(
        id="followExecution",
        tag=TAG,
        summary="Follow an execution",
        description="Every event of the execution from its request to its end, in order and "
        "without a gap, as server-sent events: `id` is the event's position, `event` its type, "
        "`data` the JSON object that the history tells of it. The stream ends after the terminal "
        "event. Whoever comes back with the id of the last event gets what followed it, and 204 "
        "after the terminal one, which lets an EventSource stop. Comments keep a quiet stream "
        "alive.",
        query=FollowQuery,
        headers=(LAST_EVENT_ID,),
        answers={
            200: Answer(
                description="The events as they happen.",
                media_types=("text/event-stream",),
                example=execution_examples.EVENTS,
            ),
            204: Answer(description="The execution has ended, and the client knows its end."),
        },
        problems=(Code.EXECUTION_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def follow_execution(request: Request[Any, Any, Any]) -> Reply:
    """The events, from where the client has come to."""
    services, access = services_of(request), access_of(request)
    notebook_id, execution_id = notebook_id_of(request), execution_id_of(request)
    name, after = _after(request)
    view = await resources.execution(services.pool, access, notebook_id, execution_id)
    if after >= view.position and view.ended:
        return empty_reply(204)
    if after > view.position:
        raise _fault(name, f"is beyond the execution's last event, {view.position}")
    stream = _Stream(services, access, notebook_id, execution_id, after)
    token = TokenWatch(services, request.headers.get("authorization"))
    return LiveReply(200, HEADERS, pushed(services, execution_id, token, stream.read))


def _after(request: Request[Any, Any, Any]) -> tuple[str, int]:
    """The position of the last event that the client has, and where it said so."""
    last_event_id = request.headers.get("last-event-id", "").strip()
    if last_event_id:
        found = queries.position(last_event_id)
        if found is None:
            raise _fault("Last-Event-ID", "must be the id of an event: a whole number")
        return "Last-Event-ID", found
    return "?after", queries.checked(request, FollowQuery).after


def _fault(name: str, reason: str) -> InvalidInputError:
    return InvalidInputError([Fault(name, reason)])


class _Stream:
    """One client's stream of one execution, from position ``after`` on."""

    def __init__(
        self, services: Services, access: Caller, notebook_id: UUID, execution_id: UUID, after: int
    ) -> None:
        self._services = services
        self._tenant_id = access.tenant_id
        self._place = (access.tenant_id, access.project_id, notebook_id, execution_id)
        self._after, self._version = after, 0

    async def read(self) -> Batch:
        """The next events, up to the terminal one."""
        async with self._services.streams.reads:
            found = await pages.page(
                self._services.pool,
                self._tenant_id,
                selection.of_execution(*self._place, self._version),
                bounds=Between(after=self._after),
                limit=EVENTS_PER_READ,
            )
            entries = await named(self._services.names, self._tenant_id, found.entries)
        if not entries:
            return Batch(more=found.more)
        self._after, self._version = entries[-1].position, entries[-1].version
        last = entries[-1].type in TERMINAL
        return Batch([b"".join(map(frame, entries))], more=found.more, last=last)


HANDLERS: list[Any] = [follow_execution]
