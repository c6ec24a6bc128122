"""Changing notebooks: create, update, delete."""

from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Request, delete, post, put
from msgspec import UNSET, Meta, UnsetType

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.create_notebook import create_notebook, template_cells
from nbledger_application.commands.delete_notebook import delete_notebook
from nbledger_application.commands.update_notebook import update_notebook
from nbledger_application.idempotency import RequestKey
from nbledger_http.description import notebook_examples
from nbledger_http.description.documentation import (
    ETAG,
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_PROBLEMS,
    LOCATION,
    POSITION,
    PRECONDITIONS,
    REPLAYED,
    Answer,
    Body,
    Operation,
)
from nbledger_http.description.schemas import DeletionUnderWay, Parsing, Session
from nbledger_http.endpoints.notebooks.reading import TAG
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, empty_reply, json_reply, with_members
from nbledger_http.representations import resources
from nbledger_http.representations.automation import ShownNotebook
from nbledger_http.representations.conditional import precondition_of
from nbledger_http.representations.idempotency import New, once
from nbledger_http.representations.notebooks.changes import (
    asked_of,
    created_reply,
    shown,
    state_headers,
    told_of,
)
from nbledger_http.requests import bodies as requests
from nbledger_http.requests import queries
from nbledger_http.requests.bindings import binding_warnings, library_warnings
from nbledger_http.requests.json_bodies import json_object
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, notebook_id_of
from nbledger_infrastructure.notebooks import templates

CREATE = "createNotebook"


class DeletionQuery(msgspec.Struct):
    """How a notebook is deleted."""

    force: Annotated[bool, Meta(description="Delete even while the notebook is executing.")] = False


class ChangedNotebook(ShownNotebook, rename="camel", kw_only=True):
    """The whole notebook, and what is to be said of the request that has made it so."""

    warnings: list[str]


class NewNotebook(ChangedNotebook, rename="camel", kw_only=True):
    """The whole notebook, with what would run it and, for an upload, what the file held."""

    session: Session | UnsetType = UNSET
    parsing: Parsing | UnsetType = UNSET


@post(
    "/notebook",
    right=Right.WRITE,
    operation=Operation(
        id=CREATE,
        tag=TAG,
        summary="Create a notebook",
        headers=(IDEMPOTENCY_KEY,),
        body=Body(schema=requests.CreateNotebook, example=notebook_examples.CREATE_NOTEBOOK),
        answers={
            201: Answer(
                description="The notebook as created.",
                schema=NewNotebook,
                opens="notebookId",
                example=notebook_examples.NEW_NOTEBOOK,
                headers={**LOCATION, **ETAG, **POSITION, **REPLAYED},
            )
        },
        problems=(
            Code.PROJECT_NOT_FOUND,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
            *IDEMPOTENCY_PROBLEMS,
        ),
    ),
)
async def create(request: Request[Any, Any, Any]) -> Reply:
    """A new notebook."""
    services, access = services_of(request), access_of(request)
    creation = requests.creation(
        await json_object(request),
        kernel_types=services.settings.worker.kernels,
        templates=templates.names(),
        template_cells=template_cells,
        environments=services.settings.environments,
        limits=services.settings.execution,
    )

    async def make(key: RequestKey | None) -> New:
        warnings = await _warnings(services, access, creation)
        told = await told_of(services.pool, creation.kernel_type, warnings)
        notebook_id, _ = await create_notebook(
            services.store, access, creation, key=None if key is None else key.answering(told)
        )
        return New(notebook_id, told)

    return await once(
        request,
        CREATE,
        partial(asked_of, creation),
        make,
        partial(created_reply, request),
        look_first=False,
    )


async def _warnings(services: Services, access: Caller, creation: requests.Creation) -> list[str]:
    environments = services.settings.environments
    libraries = creation.environment.custom_libraries
    return [
        *creation.warnings,
        *await binding_warnings(services.pool, access, creation.integration.dataset_binding),
        *await library_warnings(services.store, access, libraries, environments),
    ]


@put(
    "/notebook/{notebook_id:str}",
    right=Right.WRITE,
    operation=Operation(
        id="updateNotebook",
        tag=TAG,
        summary="Update a notebook",
        description="Members left out stay as they are. A change of cells raises the minor part "
        "of notebookVersion, any other the patch part; an update that changes nothing raises "
        "nothing.",
        headers=PRECONDITIONS,
        body=Body(schema=requests.UpdateNotebook, example=notebook_examples.UPDATE_NOTEBOOK),
        answers={
            200: Answer(
                description="The notebook as it is now.",
                schema=ChangedNotebook,
                example=notebook_examples.CHANGED_NOTEBOOK,
                headers={**ETAG, **POSITION},
            )
        },
        problems=(
            Code.NOTEBOOK_NOT_FOUND,
            Code.STALE_VERSION,
            Code.CONFLICT,
            Code.PRECONDITION_FAILED,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def update(request: Request[Any, Any, Any]) -> Reply:
    """The changed notebook."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    body = await json_object(request)
    changed = await update_notebook(
        services.store,
        access,
        notebook_id,
        partial(
            requests.update,
            body,
            environments=services.settings.environments,
            limits=services.settings.execution,
        ),
        precondition_of(request),
    )
    integration = body.get("integration") or {}
    binding = integration.get("datasetBinding") or None
    warnings = [
        *changed.warnings,
        *await binding_warnings(services.pool, access, binding),
        *await library_warnings(
            services.store, access, changed.new_libraries, services.settings.environments
        ),
    ]
    view = await resources.notebook(services.pool, access, notebook_id)
    return json_reply(
        with_members(await shown(services, access.tenant_id, view), warnings=warnings),
        headers=state_headers(view),
    )


@delete(
    "/notebook/{notebook_id:str}",
    status_code=200,
    right=Right.WRITE,
    operation=Operation(
        id="deleteNotebook",
        tag=TAG,
        summary="Delete a notebook",
        description="Permanently, with its executions and everything they have put out. While "
        "it executes, only with force=true: its executions are cancelled, and it goes with "
        "the last of them. From this moment on it is not found.",
        query=DeletionQuery,
        headers=PRECONDITIONS,
        answers={
            202: Answer(
                description="Executions are being ended; the notebook goes with the last.",
                schema=DeletionUnderWay,
                example=notebook_examples.DELETION,
            ),
            204: Answer(description="The notebook is deleted."),
        },
        problems=(
            Code.NOTEBOOK_NOT_FOUND,
            Code.NOTEBOOK_EXECUTING,
            Code.CONFLICT,
            Code.PRECONDITION_FAILED,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def delete_(request: Request[Any, Any, Any]) -> Reply:
    """Nothing, or what still has to end."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    query = queries.checked(request, DeletionQuery)
    gone = await delete_notebook(
        services.store,
        services.pool,
        access,
        notebook_id,
        force=query.force,
        precondition=precondition_of(request),
    )
    if gone:
        return empty_reply(204)
    under_way = DeletionUnderWay(
        notebook_id=notebook_id,
        detail="Its executions are being cancelled; the notebook is deleted with the last one.",
    )
    return json_reply(msgspec.json.encode(under_way), status=202)


HANDLERS: list[Any] = [create, update, delete_]
