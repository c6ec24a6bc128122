"""Automatic execution: how it stands with that of a notebook."""

from typing import Annotated, Any

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.automation.standing import standing
from nbledger_application.caller import Right
from nbledger_application.commands.loading import load_notebook
from nbledger_http.description import automation_examples
from nbledger_http.description.documentation import PREFERENCE_APPLIED, Answer, Operation
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations.automation import AutomationDocument, full
from nbledger_http.representations.documents import READ_OWN_WRITES
from nbledger_http.requests import queries
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of, notebook_id_of
from nbledger_projections.read_models import triggers

TAG = "Automatic execution"


class TriggersQuery(msgspec.Struct):
    """How much is told of what started runs."""

    triggers: Annotated[
        int, Meta(ge=0, le=1000, description="How many of the last triggers are told.")
    ] = 10


@get(
    "/notebook/{notebook_id:str}/automatic-execution",
    right=Right.READ,
    operation=Operation(
        id="getAutomaticExecution",
        tag=TAG,
        summary="Get a notebook's automatic execution",
        description="What it is set to, what is going on, and what became of the last changes. "
        "These follow within moments.",
        query=TriggersQuery,
        headers=READ_OWN_WRITES,
        answers={
            200: Answer(
                description="How it stands.",
                schema=AutomationDocument,
                example=automation_examples.AUTOMATION,
                headers=PREFERENCE_APPLIED,
            )
        },
        problems=(Code.NOTEBOOK_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def get_automatic_execution(request: Request[Any, Any, Any]) -> Reply:
    """How it stands, with the last triggers."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    query, report = queries.read(request, TriggersQuery)
    awaited = queries.awaited_position(request, report)
    report.check()
    if awaited is not None:
        await services.positions.reached(triggers.NAME, awaited.position, awaited.seconds or 0)
    notebook = (await load_notebook(services.store, access, notebook_id)).aggregate
    found = await triggers.triggers(
        services.pool, access.tenant_id, access.project_id, notebook_id, limit=query.triggers
    )
    stands = await standing(services.pool, notebook_id)
    if stands is not None:
        names = await services.names.of(access.tenant_id, [stands.set_by])
        stands = msgspec.structs.replace(stands, set_by=names[stands.set_by])
    body = full(notebook, stands, found)
    return json_reply(
        msgspec.json.encode(body),
        headers=queries.wait_applied(None if awaited is None else awaited.seconds),
    )


HANDLERS: list[Any] = [get_automatic_execution]
