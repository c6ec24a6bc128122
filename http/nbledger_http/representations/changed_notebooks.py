"""What a change to a notebook is answered with."""

from typing import Any

from litestar import Request

from nbledger_domain.vocabulary.addresses import project_path
from nbledger_http.description.schemas import Session
from nbledger_http.replies.responses import Reply, json_reply, with_members
from nbledger_http.representations import resources
from nbledger_http.representations.conditional import last_modified
from nbledger_http.representations.schedules import with_schedule
from nbledger_http.requests.services import Services
from nbledger_http.security.access import access_of
from nbledger_infrastructure.postgres import worker_registry
from nbledger_projections.read_models.notebooks.details import NotebookView


async def created_reply(
    request: Request[Any, Any, Any],
    services: Services,
    view: NotebookView,
    kernel_type: str,
    **members: Any,
) -> Reply:
    """201 with the whole notebook and ``members``."""
    offer = (await worker_registry.offers(services.pool)).get(kernel_type)
    if offer is None:
        unoffered = f"kernelType: no live worker offers {kernel_type!r} now"
        members["warnings"] = [*members.get("warnings", []), unoffered]
    session = Session(
        kernel_type=kernel_type,
        offered=offer is not None,
        language=None if offer is None else offer.language,
        language_version=None if offer is None else offer.language_version,
    )
    access = access_of(request)
    location = project_path(access.tenant_id, access.project_id, "notebook", view.notebook_id)
    document = await with_schedule(services.store, view.notebook_id, view.document)
    return json_reply(
        with_members(document, session=session, **members),
        status=201,
        headers={"Location": location, **state_headers(view)},
    )


def state_headers(view: NotebookView) -> dict[str, str]:
    """What the answer to a change says of the notebook's state."""
    return {
        "ETag": resources.notebook_etag(view),
        "Last-Modified": last_modified(view.modified_at),
        "Nbledger-Position": str(view.position),
    }
