"""Downloads: notebooks, tables, and any file by its signed link."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.loading import load_notebook
from nbledger_domain.errors import DatasetNotFoundError
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.replies.file_names import content_disposition, safe_file_name
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.replies.responses import Reply, header_list
from nbledger_http.representations import resources
from nbledger_http.representations.notebooks.bundle import bundle_reply
from nbledger_http.representations.notebooks.files import notebook_file
from nbledger_http.representations.stored_files import ANSWERS, RANGE_HEADERS, file_reply
from nbledger_http.representations.streaming import LiveReply
from nbledger_http.requests import queries
from nbledger_http.requests.forms import scratch_folder
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import (
    access_of,
    dataset_id_of,
    execution_id_in,
    notebook_id_of,
)
from nbledger_infrastructure import datasets
from nbledger_infrastructure.datasets import DatasetHead
from nbledger_infrastructure.datasets.export import csv_stream

InLink = Annotated[str, Meta(description="As in the link.")]


DatasetVersion = Annotated[int, Meta(ge=1, le=1_000_000_000, description="By default the newest.")]


class NotebookFileQuery(msgspec.Struct, rename="camel"):
    """What of a notebook is downloaded."""

    format: Annotated[
        Literal["ipynb", "zip"],
        Meta(description="zip: the notebook file and its input files, at their paths."),
    ] = "ipynb"
    execution_id: Annotated[
        str | None,
        Meta(
            description="The notebook as this execution ran it.",
            extra_json_schema={"format": "uuid"},
        ),
    ] = None


class DatasetFileQuery(msgspec.Struct):
    """What of a dataset is downloaded."""

    format: Annotated[Literal["csv", "parquet"], Meta(description="What to make of it.")] = "csv"
    version: DatasetVersion | None = None


class LinkQuery(msgspec.Struct, rename="camel"):
    """What a signed link has in its query."""

    content_type: InLink
    expires: InLink
    signature: InLink
    inline: Annotated[
        bool,
        Meta(description="1 to have it shown rather than saved; may be added to any link."),
    ] = False


@get(
    "/notebook/{notebook_id:str}/download",
    right=Right.READ,
    operation=Operation(
        id="downloadNotebook",
        tag="Notebooks",
        summary="Download a notebook as .ipynb, or as a ZIP archive with its input files",
        description="As it is now, with the outputs it was uploaded with where nothing has "
        "changed; or as one execution ran it, with what that has put out. A ZIP archive can be "
        "uploaded again as it is.",
        query=NotebookFileQuery,
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
async def download_notebook(request: Request[Any, Any, Any]) -> Reply:
    """A notebook file."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    query = queries.checked(request, NotebookFileQuery)
    if query.execution_id is None:
        loaded = await load_notebook(services.store, access, notebook_id)
        notebook = loaded.aggregate
        content = await notebook_file(services, access, notebook)
        name = notebook.name
    else:
        results = await resources.results(
            services.pool, access, notebook_id, execution_id_in(query.execution_id)
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
    if query.format == "zip":
        return await bundle_reply(services.artifacts, access, notebook, file_name, content)
    headers = {
        "Content-Type": "application/x-ipynb+json",
        "Content-Length": str(len(content)),
        "Content-Disposition": content_disposition(file_name),
        "X-Content-Type-Options": "nosniff",
    }
    return Reply(200, header_list(headers), content)


@get(
    "/dataset/{dataset_id:str}/download",
    right=Right.READ,
    operation=Operation(
        id="downloadDataset",
        tag="Datasets",
        summary="Download a dataset",
        description="Parquet as it is kept, of which ranges can be asked for; or CSV in UTF-8.",
        query=DatasetFileQuery,
        headers=RANGE_HEADERS,
        answers=ANSWERS,
        problems=(
            Code.DATASET_NOT_FOUND,
            Code.PRECONDITION_FAILED,
            Code.ARTIFACT_NOT_FOUND,
            Code.RANGE_NOT_SATISFIABLE,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def download_dataset(request: Request[Any, Any, Any]) -> Reply:
    """The table of one version."""
    services, access = services_of(request), access_of(request)
    dataset_id = dataset_id_of(request)
    query = queries.checked(request, DatasetFileQuery)
    head = await _head(services, access, dataset_id, query.version)
    file_name = f"{safe_file_name(head.name, default='dataset')}.{query.format}"
    stored = await services.artifacts.find(head.scope, head.content.digest)
    if query.format == "parquet":
        return file_reply(
            request,
            services.artifacts,
            stored,
            content_type=head.content.content_type,
            file_name=file_name,
        )
    headers = {
        "Content-Type": "text/csv; charset=utf-8; header=present",
        "Content-Disposition": content_disposition(file_name),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }
    return LiveReply(200, header_list(headers), _csv(services, head))


@get(
    "/downloads/{tenant_id:str}/{project_id:str}/{notebook_id:str}/{digest:str}/{file_name:str}",
    operation=Operation(
        id="downloadFile",
        tag="Results",
        summary="Download a file by its link",
        description="Links come with results. They need no token, and work until they expire. "
        "What a notebook has made is shown by browsers in a sandbox only: no script runs in it, "
        "and nothing is loaded.",
        query=LinkQuery,
        headers=RANGE_HEADERS,
        answers=ANSWERS,
        problems=(
            Code.LINK_INVALID,
            Code.PRECONDITION_FAILED,
            Code.ARTIFACT_NOT_FOUND,
            Code.RANGE_NOT_SATISFIABLE,
            Code.VALIDATION_FAILED,
            Code.UNAVAILABLE,
        ),
        secured=False,
    ),
)
async def download_file(request: Request[Any, Any, Any]) -> Reply:
    """The file, or a part of it."""
    services = services_of(request)
    query, report = queries.read(request, LinkQuery)
    given = {
        "contentType": query.content_type,
        "expires": query.expires,
        "signature": query.signature,
    }
    link = services.links.check(request.path_params, given)
    if link is None:
        raise Problem(Code.LINK_INVALID, "The link is incomplete, altered or expired.")
    report.check()
    return file_reply(
        request,
        services.artifacts,
        await services.artifacts.find(link.scope, link.digest),
        content_type=link.content_type,
        file_name=link.file_name,
        inline=query.inline,
    )


async def _head(
    services: Services, access: Caller, dataset_id: UUID, version: int | None
) -> DatasetHead:
    project = (services.store, access.tenant_id, access.project_id)
    if (head := await datasets.head(*project, dataset_id, version=version)) is not None:
        return head
    if (newest := await datasets.head(*project, dataset_id)) is None:
        raise DatasetNotFoundError(dataset_id)
    reason = f"The dataset has no version {version}; its newest is {newest.version}."
    raise Problem(Code.ARTIFACT_NOT_FOUND, reason)


async def _csv(services: Services, head: DatasetHead) -> AsyncGenerator[bytes]:
    async with services.exports, scratch_folder() as folder:
        path = folder / "dataset.parquet"
        await datasets.materialise(services.artifacts, head, path)
        async with contextlib.aclosing(csv_stream(path, head.rows)) as pieces:
            async for piece in pieces:
                yield piece


HANDLERS: list[Any] = [download_notebook, download_dataset]
OPEN_HANDLERS: list[Any] = [download_file]
"""Those that take no token."""
