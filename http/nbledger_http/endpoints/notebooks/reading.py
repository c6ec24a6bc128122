"""Reading notebooks: one as it is now, and the list of a project's."""

from typing import Annotated, Any

from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Caller, Right
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.vocabulary.languages import KERNEL_TYPE
from nbledger_http.description import notebook_examples
from nbledger_http.description.documentation import (
    AS_OF_POSITION,
    AS_OF_PROBLEMS,
    ETAG,
    NOT_MODIFIED,
    READ_CONDITIONS,
    Answer,
    Operation,
)
from nbledger_http.description.schemas import PageBody
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply
from nbledger_http.representations import past, resources
from nbledger_http.representations.automation import ShownNotebook
from nbledger_http.representations.conditional import document_reply
from nbledger_http.representations.documents import (
    LIST_HEADERS,
    LIST_NOTES,
    READ_OWN_WRITES,
    page_reply,
)
from nbledger_http.representations.notebooks.changes import (
    shown,
)
from nbledger_http.requests import queries
from nbledger_http.requests.declared import one_of
from nbledger_http.requests.past.moments import NOTES as AS_OF_NOTES
from nbledger_http.requests.past.moments import NotebookAsOfQuery, as_of
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, notebook_id_of
from nbledger_projections.machinery.documents import Page
from nbledger_projections.read_models.notebooks import listing
from nbledger_projections.read_models.notebooks.activity import NotebookStatus
from nbledger_projections.read_models.notebooks.list_items import NotebookItemDocument

TAG = "Notebooks"
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
        description="As of now: never behind what an earlier request has changed." + AS_OF_NOTES,
        query=NotebookAsOfQuery,
        headers=READ_CONDITIONS,
        answers={
            200: Answer(
                description="The notebook.",
                schema=ShownNotebook,
                example=notebook_examples.NOTEBOOK,
                headers={**ETAG, **AS_OF_POSITION},
            ),
            304: NOT_MODIFIED,
        },
        problems=(
            Code.NOTEBOOK_NOT_FOUND,
            Code.VERSION_NOT_FOUND,
            *AS_OF_PROBLEMS,
            Code.PRECONDITION_FAILED,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def get_notebook(request: Request[Any, Any, Any]) -> Reply:
    """The notebook."""
    services, access = services_of(request), access_of(request)
    notebook_id, wanted = notebook_id_of(request), as_of(request, NotebookAsOfQuery)
    moment, runs = None, 0
    if wanted is None:
        view = await resources.notebook(services.pool, access, notebook_id)
    else:
        view, moment, runs = await past.notebook(services, access, notebook_id, wanted)
    return document_reply(
        request,
        await shown(services, access.tenant_id, view, moment, runs),
        etag=resources.notebook_etag(view),
        modified_at=view.modified_at,
        headers=None if moment is None else past.position_header(moment),
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


HANDLERS: list[Any] = [get_notebook, list_notebooks]
