"""What a change to a notebook is answered with."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from litestar import Request
from msgspec import UNSET, UnsetType

from nbledger_domain.vocabulary.addresses import project_path
from nbledger_http.description.schemas import Parsing
from nbledger_http.replies.responses import Reply, json_reply, with_members
from nbledger_http.representations import resources
from nbledger_http.representations.automation import shown_notebook
from nbledger_http.representations.conditional import last_modified
from nbledger_http.representations.executions.run_plans import session_of
from nbledger_http.representations.idempotency import beyond_defaults
from nbledger_http.representations.principals import with_name
from nbledger_http.requests.bodies import Creation
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store.moments import Moment
from nbledger_projections.read_models.notebooks.details import NotebookView


def asked_of(creation: Creation) -> dict[str, Any]:
    """What a request to create asks for, as plain data."""
    asked: dict[str, Any] = beyond_defaults(creation)
    del asked["warnings"]
    return asked


async def told_of(
    pool: Pool, kernel_type: str, warnings: list[str], *, parsing: Parsing | UnsetType = UNSET
) -> dict[str, Any]:
    """What the answer tells of a creation, beside the notebook."""
    offer = (await worker_registry.offers(pool)).get(kernel_type)
    if offer is None:
        warnings = [*warnings, f"kernelType: no live worker offers {kernel_type!r} now"]
    told: dict[str, Any] = {"session": session_of(kernel_type, offer), "warnings": warnings}
    return told if parsing is UNSET else {**told, "parsing": parsing}


async def created_reply(
    request: Request[Any, Any, Any], notebook_id: UUID, told: Mapping[str, Any]
) -> Reply:
    """201 with the whole notebook and what is ``told`` beside it."""
    access = access_of(request)
    services = services_of(request)
    view = await resources.notebook(services.pool, access, notebook_id)
    location = project_path(access.tenant_id, access.project_id, "notebook", notebook_id)
    return json_reply(
        with_members(await shown(services, access.tenant_id, view), **told),
        status=201,
        headers={"Location": location, **state_headers(view)},
    )


async def shown(
    services: Services,
    tenant_id: UUID,
    view: NotebookView,
    moment: Moment | None = None,
    runs_then: int = 0,
) -> bytes:
    """The notebook as clients see it: with the name of who created it, and with its schedule.

    As it is now, or with a ``moment`` as it was then, when ``runs_then`` of its schedule's firings
    had run; the name is the one of today.
    """
    document = await with_name(services.names, tenant_id, view.document, "createdBy")
    return await shown_notebook(services.store, view.notebook_id, document, moment, runs_then)


def state_headers(view: NotebookView) -> dict[str, str]:
    """What the answer to a change says of the notebook's state."""
    return {
        "ETag": resources.notebook_etag(view),
        "Last-Modified": last_modified(view.modified_at),
        "Nbledger-Position": str(view.position),
    }
