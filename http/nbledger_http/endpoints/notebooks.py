"""Notebooks: create, read, list, change, delete, download."""

from functools import partial
from typing import Any

import msgspec
from litestar import Request, delete, get, post, put
from msgspec import UNSET, UnsetType

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.create_notebook import create_notebook, template_cells
from nbledger_application.commands.delete_notebook import delete_notebook
from nbledger_application.commands.loading import load_notebook
from nbledger_application.commands.update_notebook import update_notebook
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_domain.vocabulary.languages import KERNEL_TYPE
from nbledger_http.description import notebook_examples
from nbledger_http.description.documentation import (
    ETAG,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    LOCATION,
    NOT_MODIFIED,
    POSITION,
    Answer,
    Body,
    Operation,
    Parameter,
)
from nbledger_http.description.schemas import (
    CreateNotebook,
    DeletionUnderWay,
    Parsing,
    Session,
    UpdateNotebook,
)
from nbledger_http.endpoints.notebook_files import notebook_file
from nbledger_http.replies.file_names import content_disposition, safe_file_name
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import (
    Reply,
    empty_reply,
    header_list,
    json_reply,
    with_members,
)
from nbledger_http.representations import resources
from nbledger_http.representations.conditional import document_reply, if_match, last_modified
from nbledger_http.representations.documents import (
    LIST_HEADERS,
    LIST_NOTES,
    LIST_PARAMETERS,
    page_reply,
)
from nbledger_http.representations.notebook_bundle import bundle_reply
from nbledger_http.requests import bodies as requests
from nbledger_http.requests.bindings import binding_warnings, library_warnings
from nbledger_http.requests.queries import Query, position
from nbledger_http.requests.reading import json_object
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, execution_id_in, notebook_id_of
from nbledger_infrastructure.notebooks import templates
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.database import Pool
from nbledger_projections.machinery.documents import Page
from nbledger_projections.read_models.notebooks import listing
from nbledger_projections.read_models.notebooks.activity import NotebookStatus
from nbledger_projections.read_models.notebooks.details import NotebookView
from nbledger_projections.read_models.notebooks.documents import NotebookDocument
from nbledger_projections.read_models.notebooks.list_items import NotebookItemDocument

TAG = "Notebooks"
DOWNLOAD_FORMATS = ("ipynb", "zip")
STATUSES = [str(status) for status in NotebookStatus]


class ChangedNotebook(NotebookDocument, rename="camel", kw_only=True):
    """The whole notebook, and what is to be said of the request that has made it so."""

    warnings: list[str]


class NewNotebook(ChangedNotebook, rename="camel", kw_only=True):
    """The whole notebook, with what would run it and, for an upload, what the file held."""

    session: Session | UnsetType = UNSET
    parsing: Parsing | UnsetType = UNSET


class NotebookListDocument(msgspec.Struct, rename="camel"):
    """A page of the project's notebooks, newest first."""

    notebooks: list[NotebookItemDocument]
    total_count: int
    page: int
    page_size: int
    has_next_page: bool


@get(
    "/notebook/{notebook_id:str}",
    right=Right.READ,
    operation=Operation(
        id="getNotebook",
        tag=TAG,
        summary="Get notebook details",
        description="As of now: never behind what an earlier request has changed.",
        parameters=(IF_NONE_MATCH, IF_MODIFIED_SINCE),
        answers={
            200: Answer(
                description="The notebook.",
                schema=NotebookDocument,
                example=notebook_examples.NOTEBOOK,
                headers=ETAG,
            ),
            304: NOT_MODIFIED,
        },
        problems=(Code.NOTEBOOK_NOT_FOUND,),
    ),
)
async def get_notebook(request: Request[Any, Any, Any]) -> Reply:
    """The notebook."""
    view = await resources.notebook(
        services_of(request).pool, access_of(request), notebook_id_of(request)
    )
    return document_reply(
        request, view.document, etag=resources.notebook_etag(view), modified_at=view.modified_at
    )


@get(
    "/notebooks",
    right=Right.READ,
    operation=Operation(
        id="listNotebooks",
        tag=TAG,
        summary="List all notebooks",
        description=LIST_NOTES,
        parameters=(
            Parameter(
                name="status",
                description="Only notebooks of this status.",
                schema={"type": "string", "enum": STATUSES},
            ),
            Parameter(
                name="kernelType",
                description="Only notebooks of this kernel type: python3, r, scala, or one that an "
                "uploaded notebook brought along.",
                schema={"type": "string"},
            ),
            Parameter(
                name="enrichmentMode",
                description="Only notebooks that are, or are not, set up for data enrichment.",
                schema={"type": "boolean"},
            ),
            *LIST_PARAMETERS,
        ),
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
    query = Query(request)
    status = query.choice("status", STATUSES)
    kernel_type = query.text("kernelType")
    fault = await _fault_of_kernel_type(services, access, kernel_type)
    # The notebook that has this kernel type may come with the position that is waited for.
    awaits = position(request.headers.get("nbledger-position", "")) is not None
    if fault is not None and not awaits:
        query.faults.append(fault)
    enrichment_mode = query.flag("enrichmentMode")

    async def read(page: int, size: int) -> Page:
        if fault is not None:
            late = await _fault_of_kernel_type(services, access, kernel_type)
            if late is not None:
                raise InvalidInputError([late])
        return await listing.page(
            services.pool,
            access.tenant_id,
            access.project_id,
            status=status,
            kernel_type=kernel_type,
            enrichment_mode=enrichment_mode,
            page=page,
            page_size=size,
        )

    return await page_reply(request, query, "notebooks", listing.NAME, read)


async def _fault_of_kernel_type(
    services: Services, access: Caller, kernel_type: str | None
) -> Fault | None:
    """Whether there can be no notebook of this kernel type: a mistyped one must not find none.

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
    told = f"must be one of {', '.join(usual)}, or the kernel type of a notebook here"
    return Fault("?kernelType", told)


@post(
    "/notebook",
    right=Right.WRITE,
    operation=Operation(
        id="createNotebook",
        tag=TAG,
        summary="Create a notebook",
        body=Body(schema=CreateNotebook, example=notebook_examples.CREATE_NOTEBOOK),
        answers={
            201: Answer(
                description="The notebook as created.",
                schema=NewNotebook,
                opens="notebookId",
                example=notebook_examples.NEW_NOTEBOOK,
                headers={**LOCATION, **ETAG, **POSITION},
            )
        },
        problems=(
            Code.PROJECT_NOT_FOUND,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
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
    )
    binding = creation.integration.dataset_binding
    warnings = [
        *creation.warnings,
        *await binding_warnings(services.pool, access, binding),
        *await library_warnings(
            services.store,
            access,
            creation.environment.custom_libraries,
            services.settings.environments,
        ),
    ]
    notebook_id, _ = await create_notebook(services.store, access, creation)
    view = await resources.notebook(services.pool, access, notebook_id)
    return await created_reply(
        request, services.pool, view, creation.kernel_type, warnings=warnings
    )


async def created_reply(
    request: Request[Any, Any, Any],
    pool: Pool,
    view: NotebookView,
    kernel_type: str,
    **members: Any,
) -> Reply:
    """201 with the whole notebook and ``members``."""
    offer = (await worker_registry.offers(pool)).get(kernel_type)
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
    return json_reply(
        with_members(view.document, session=session, **members),
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
        parameters=(IF_MATCH,),
        body=Body(schema=UpdateNotebook, example=notebook_examples.UPDATE_NOTEBOOK),
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
        partial(requests.update, body, environments=services.settings.environments),
        if_match(request.headers.get("if-match")),
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
    return json_reply(with_members(view.document, warnings=warnings), headers=state_headers(view))


@delete(
    "/notebook/{notebook_id:str}",
    status_code=200,
    right=Right.WRITE,
    operation=Operation(
        id="deleteNotebook",
        tag=TAG,
        summary="Delete a notebook",
        description="Permanently, with its executions and everything they have put out. While "
        "it executes, only with force=true: its executions are told to end, and it goes with "
        "the last of them. From this moment on it is not found.",
        parameters=(
            Parameter(
                name="force",
                description="Delete even while the notebook is executing.",
                schema={"type": "boolean", "default": False},
            ),
        ),
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
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def delete_(request: Request[Any, Any, Any]) -> Reply:
    """Nothing, or what still has to end."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    query = Query(request)
    force = query.flag("force") or False
    query.check()
    gone = await delete_notebook(services.store, services.pool, access, notebook_id, force=force)
    if gone:
        return empty_reply(204)
    under_way = DeletionUnderWay(
        notebook_id=notebook_id,
        detail="Its executions have been told to end; the notebook is deleted with the last one.",
    )
    return json_reply(msgspec.json.encode(under_way), status=202)


@get(
    "/notebook/{notebook_id:str}/download",
    right=Right.READ,
    operation=Operation(
        id="downloadNotebook",
        tag=TAG,
        summary="Download a notebook as .ipynb, or as a ZIP archive with its input files",
        description="As it is now, with the outputs it was uploaded with where nothing has "
        "changed; or as one execution ran it, with what that has put out. A ZIP archive can be "
        "uploaded again as it is.",
        parameters=(
            Parameter(
                name="format",
                description="zip: the notebook file and its input files, at their paths.",
                schema={"type": "string", "enum": list(DOWNLOAD_FORMATS), "default": "ipynb"},
            ),
            Parameter(
                name="executionId",
                description="The notebook as this execution ran it.",
                schema={"type": "string", "format": "uuid"},
            ),
        ),
        answers={
            200: Answer(
                description="The notebook file, nbformat 4.5; or the archive.",
                media_types=("application/x-ipynb+json", "application/zip"),
                headers={"Content-Disposition": "Names the file."},
            )
        },
        problems=(
            Code.NOTEBOOK_NOT_FOUND,
            Code.EXECUTION_NOT_FOUND,
            Code.ARTIFACT_NOT_FOUND,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def download(request: Request[Any, Any, Any]) -> Reply:
    """A notebook file."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    query = Query(request)
    execution_id = query.text("executionId")
    form = query.choice("format", DOWNLOAD_FORMATS)
    query.check()
    if execution_id is None:
        loaded = await load_notebook(services.store, access, notebook_id)
        notebook = loaded.aggregate
        content = await notebook_file(services, access, notebook)
        name = notebook.name
    else:
        results = await resources.results(
            services.pool, access, notebook_id, execution_id_in(execution_id)
        )
        notebook = (
            await load_notebook(
                services.store,
                access,
                notebook_id,
                up_to_version=results.notebook_stream_version,
            )
        ).aggregate
        content = await notebook_file(services, access, notebook, results)
        name = f"{notebook.name}-{results.execution_id.hex[-8:]}"
    file_name = f"{safe_file_name(name, default='notebook')}.ipynb"
    if form == "zip":
        return await bundle_reply(services.artifacts, access, notebook, file_name, content)
    headers = {
        "Content-Type": "application/x-ipynb+json",
        "Content-Length": str(len(content)),
        "Content-Disposition": content_disposition(file_name),
        "X-Content-Type-Options": "nosniff",
    }
    return Reply(200, header_list(headers), content)


HANDLERS: list[Any] = [get_notebook, list_notebooks, create, update, delete_, download]
