"""The status of a run that waits, with its place in the queue."""

from uuid import UUID

import msgspec

from nbledger_application import queue_places
from nbledger_application.queue import ShareLimits
from nbledger_http.replies.responses import with_members
from nbledger_http.representations import resources
from nbledger_http.representations.principals import with_name
from nbledger_http.requests.services import Services
from nbledger_projections.read_models.executions.documents import QueueDocument
from nbledger_projections.read_models.executions.status import ExecutionView
from nbledger_projections.read_models.humanize import timestamp


class PlacedView(msgspec.Struct, frozen=True):
    """An execution as it is answered with; the entity tag covers its place, too."""

    view: ExecutionView
    document: bytes
    etag: str


async def told(services: Services, tenant_id: UUID, view: ExecutionView) -> PlacedView:
    """The execution, and where it stands in the queue if it waits."""
    # The place first: the less time has passed since the execution was read, the better they fit.
    queue, mark = await _place(services, view) if view.waits else (None, "")
    document = await with_name(services.names, tenant_id, view.document, "requestedBy")
    if queue is not None:
        document = with_members(document, queue=queue)
    return PlacedView(view, document, f'{resources.execution_etag(view)[:-1]}{mark}"')


async def _place(services: Services, view: ExecutionView) -> tuple[QueueDocument | None, str]:
    """The place, and what the entity tag tells of it; none where a worker has taken it since."""
    settings = services.settings.queue
    limits = ShareLimits.of(settings.max_running_per_tenant, settings.max_running_per_project)
    place = await queue_places.find(services.pool, view.execution_id, limits)
    if place is None:
        return None, ""
    queue = QueueDocument(place.position, place.reason, timestamp(place.since), place.seconds)
    seconds = "" if place.seconds is None else f".{place.seconds:.1f}"
    return queue, f".q{place.position}.{place.reason}{seconds}"
