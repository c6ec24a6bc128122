"""Notebooks: create, read, list, change, delete."""

from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post, put
from msgspec import UNSET, Meta, UnsetType

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.create_notebook import create_notebook, template_cells
from nbledger_application.commands.delete_notebook import delete_notebook
from nbledger_application.commands.update_notebook import update_notebook
from nbledger_application.idempotency import RequestKey
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.vocabulary.languages import KERNEL_TYPE
from nbledger_http.description import notebook_examples
from nbledger_http.description.documentation import (
    ETAG,
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_PROBLEMS,
    LOCATION,
    NOT_MODIFIED,
    POSITION,
    PRECONDITIONS,
    READ_CONDITIONS,
    REPLAYED,
    Answer,
    Body,
    Operation,
)
from nbledger_http.description.schemas import DeletionUnderWay, PageBody, Parsing, Session
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, empty_reply, json_reply, with_members
from nbledger_http.representations import resources
from nbledger_http.representations.automation import ShownNotebook
from nbledger_http.representations.changed_notebooks import (
    asked_of,
    created_reply,
    shown,
    state_headers,
    told_of,
)
from nbledger_http.representations.conditional import document_reply, precondition_of
from nbledger_http.representations.documents import (
    LIST_HEADERS,
    LIST_NOTES,
    READ_OWN_WRITES,
    page_reply,
)
from nbledger_http.representations.idempotency import New, once
from nbledger_http.requests import bodies as requests
from nbledger_http.requests import queries
from nbledger_http.requests.bindings import binding_warnings, library_warnings
from nbledger_http.requests.declared import one_of
from nbledger_http.requests.json_bodies import json_object
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, notebook_id_of
from nbledger_infrastructure.notebooks import templates
from nbledger_projections.machinery.documents import Page
from nbledger_projections.read_models.notebooks import listing
from nbledger_projections.read_models.notebooks.activity import NotebookStatus
from nbledger_projections.read_models.notebooks.list_items import NotebookItemDocument

TAG = "Notebooks"
CREATE = "createNotebook"
STATUSES = [str(status) for status in NotebookStatus]


class NotebookQuery(queries.Paging, rename="camel", kw_only=True):
    """Which of the project's notebooks are listed."""

    status: Annotated[str, one_of(STATUSES, "Only notebooks of this status.")] | None = None
    kernel_type: Annotated[
        str | None,
        Meta(
            description="Only notebooks of this kernel type: python3, r, scala, or one that "
            "an uploaded notebook brought along."
        ),
    ] = None
    enrichment_mode: Annotated[
        bool | None,
        Meta(description="Only notebooks that are, or are not, set up for data enrichment."),
    ] = None


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


class NotebookListDocument(PageBody, rename="camel", kw_only=True):
    """A page of the project's notebooks, newest first."""

    notebooks: list[NotebookItemDocument]


@get(
    "/notebook/{notebook_id:str}",
    right=Right.READ,
    operation=Operation(
        id="getNotebook",
        tag=TAG,
        summary="Get notebook details",
        description="As of now: never behind what an earlier request has changed.",
        headers=READ_CONDITIONS,
        answers={
            200: Answer(
                description="The notebook.",
                schema=ShownNotebook,
                example=notebook_examples.NOTEBOOK,
                headers=ETAG,
            ),
            304: NOT_MODIFIED,
        },
        problems=(Code.NOTEBOOK_NOT_FOUND, Code.PRECONDITION_FAILED),
    ),
)
async def get_notebook(request: Request[Any, Any, Any]) -> Reply:
    """The notebook."""
    services = services_of(request)
    view = await resources.notebook(services.pool, access_of(request), notebook_id_of(request))
    return document_reply(
        request,
        await shown(services, view),
        etag=resources.notebook_etag(view),
        modified_at=view.modified_at,
    )


@get(
    "/notebooks",
    right=Right.READ,
    operation=Operation(
        id="listNotebooks",
        tag=TAG,
        summary="List all notebooks",
        description=LIST_NOTES,
        query=NotebookQuery,
        headers=READ_OWN_WRITES,
        answers={
            200: Answer(
                description="The notebooks.",
                schema=NotebookListDocument,
                example=notebook_examples.NOTEBOOK_LIST,
                headers=LIST_HEADERS,
            )
        },
        problems=(Code.PROJECT_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_notebooks(request: Request[Any, Any, Any]) -> Reply:
    """A page of the project's notebooks."""
    services, access = services_of(request), access_of(request)
    query, report = queries.read(request, NotebookQuery)
    kernel_type = query.kernel_type
    fault = await _fault_of_kernel_type(services, access, kernel_type)
    # The notebook that has this kernel type may come with the position that is waited for.
    awaits = queries.position(request.headers.get("nbledger-position", "")) is not None
    if fault is not None and not awaits:
        report.fault("?kernelType", fault)

    async def read(page: int, size: int) -> Page:
        if fault is not None:
            late = await _fault_of_kernel_type(services, access, kernel_type)
            if late is not None:
                raise InvalidInputError([Fault("?kernelType", late)])
        return await listing.page(
            services.pool,
            access.tenant_id,
            access.project_id,
            status=query.status,
            kernel_type=kernel_type,
            enrichment_mode=query.enrichment_mode,
            page=page,
            page_size=size,
        )

    return await page_reply(request, (query, report), "notebooks", listing.NAME, read)


async def _fault_of_kernel_type(
    services: Services, access: Caller, kernel_type: str | None
) -> str | None:
    """Why there can be no notebook of this kernel type: a mistyped one must not find none.

    Uploads bring kernel types of their own.
    """
    usual = sorted(services.settings.worker.kernels)
    if kernel_type is None or kernel_type in usual:
        return None
    if KERNEL_TYPE.match(kernel_type):
        found = await listing.page(
            services.pool,
            access.tenant_id,
            access.project_id,
            kernel_type=kernel_type,
            page=1,
            page_size=1,
        )
        if found.total_count:
            return None
    return f"must be one of {', '.join(usual)}, or the kernel type of a notebook here"


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
        with_members(await shown(services, view), warnings=warnings), headers=state_headers(view)
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


HANDLERS: list[Any] = [get_notebook, list_notebooks, create, update, delete_]
