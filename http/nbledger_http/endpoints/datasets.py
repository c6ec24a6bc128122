"""Datasets: upload, list, read, give a new version, download, delete."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, delete, get, post, put

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.dataset_versions import (
    TableFile,
    add_version,
    create_dataset,
    delete_dataset,
)
from nbledger_application.commands.loading import load_dataset
from nbledger_domain.errors import DatasetNotFoundError, Fault, InvalidInputError
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_domain.vocabulary.units import MIB
from nbledger_http.description import examples
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
from nbledger_http.description.schemas import CsvParsing
from nbledger_http.replies.file_names import content_disposition, safe_file_name
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.replies.responses import (
    Reply,
    empty_reply,
    header_list,
    json_reply,
    with_members,
)
from nbledger_http.representations.conditional import document_reply, if_match
from nbledger_http.representations.documents import (
    LIST_HEADERS,
    LIST_NOTES,
    LIST_PARAMETERS,
    etag,
    page_reply,
    state_headers,
)
from nbledger_http.representations.stored_files import ANSWERS, RANGE_PARAMETERS, file_reply
from nbledger_http.representations.streaming import LiveReply
from nbledger_http.requests.forms import Form, received, scratch_folder
from nbledger_http.requests.queries import Query
from nbledger_http.requests.services import Services, services_of
from nbledger_http.requests.validation import Members
from nbledger_http.security.access import access_of, dataset_id_of
from nbledger_infrastructure import datasets
from nbledger_infrastructure.datasets import DatasetHead
from nbledger_infrastructure.datasets.export import csv_stream
from nbledger_infrastructure.datasets.ingest import Ingested, ingest_csv
from nbledger_infrastructure.postgres.database import Pool
from nbledger_projections.machinery.documents import Page, View
from nbledger_projections.read_models import dataset_details
from nbledger_projections.read_models.dataset_details import DatasetDocument, DatasetItemDocument

TAG = "Datasets"
FORMATS = ("csv", "parquet")
MAX_NAME = 200

FORM = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "text/csv",
            "description": "The table; its first row names the columns.",
        },
        "datasetName": {
            "type": "string",
            "maxLength": MAX_NAME,
            "description": "By default the name of the file.",
        },
    },
    "required": ["file"],
}
VERSION_FORM = {
    "type": "object",
    "properties": {"file": FORM["properties"]["file"]},  # type: ignore[index]
    "required": ["file"],
}
UPLOAD_NOTES = (
    "Commas, semicolons, tabs and bars are known as delimiters; UTF-8, UTF-16 (with a byte order "
    "mark) and Windows-1252 as encodings; which it is, is found out. So are the types of the "
    "columns, from all rows. The file may be packed by gzip; a workbook, an archive, an HTML page "
    "and other files that are no CSV are refused with what they are. A column that the header does "
    "not name is called `Unnamed: 0` after its place, counted from 0, and `warnings` tells it. "
    "A file that is no good table is refused with row, column and reason."
)


class ChangedDataset(DatasetDocument, rename="camel", kw_only=True):
    """The whole dataset, how the file was read, and which fields of the form were ignored."""

    parsing: CsvParsing
    warnings: list[str]


class DatasetList(msgspec.Struct, rename="camel"):
    """A page of the project's datasets, newest first."""

    datasets: list[DatasetItemDocument]
    total_count: int
    page: int
    page_size: int
    has_next_page: bool


@post(
    "/dataset/csv",
    right=Right.WRITE,
    operation=Operation(
        id="createDataset",
        tag=TAG,
        summary="Upload a dataset as CSV",
        description=UPLOAD_NOTES,
        body=Body(schema=FORM, media_type="multipart/form-data"),
        answers={
            201: Answer(
                description="The dataset as created.",
                schema=ChangedDataset,
                opens="datasetId",
                example=examples.NEW_DATASET,
                headers={**LOCATION, **ETAG, **POSITION},
            )
        },
        problems=(
            Code.PROJECT_NOT_FOUND,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
            Code.INVALID_CSV,
        ),
    ),
)
async def create(request: Request[Any, Any, Any]) -> Reply:
    """A new dataset."""
    services, access = services_of(request), access_of(request)
    async with received(request, limit_mb=services.settings.http.max_dataset_mb) as form:
        fields = Members(form.fields, "", [])
        name = _name(fields, form.file_name)
        ingested = await _ingested(services, form)
        dataset_id = await create_dataset(
            services.store,
            services.artifacts,
            access,
            TableFile(ingested.path, ingested.rows, ingested.columns),
            name=name,
            file_name=form.file_name,
        )
    view = await _view(services.pool, access, dataset_id)
    location = project_path(access.tenant_id, access.project_id, "dataset", dataset_id)
    return _changed_reply(view, ingested, fields, status=201, headers={"Location": location})


@put(
    "/dataset/{dataset_id:str}/csv",
    right=Right.WRITE,
    operation=Operation(
        id="addDatasetVersion",
        tag=TAG,
        summary="Upload a new version of a dataset as CSV",
        description="Earlier versions stay. " + UPLOAD_NOTES,
        parameters=(IF_MATCH,),
        body=Body(schema=VERSION_FORM, media_type="multipart/form-data"),
        answers={
            200: Answer(
                description="The dataset as it is now.",
                schema=ChangedDataset,
                example=examples.NEW_DATASET,
                headers={**ETAG, **POSITION},
            )
        },
        problems=(
            Code.DATASET_NOT_FOUND,
            Code.CONFLICT,
            Code.PRECONDITION_FAILED,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
            Code.INVALID_CSV,
        ),
    ),
)
async def update(request: Request[Any, Any, Any]) -> Reply:
    """The dataset with its new version."""
    services, access = services_of(request), access_of(request)
    dataset_id = dataset_id_of(request)
    precondition = if_match(request.headers.get("if-match"))
    loaded = await load_dataset(services.store, access, dataset_id)
    precondition.check(loaded.aggregate.version, "dataset")
    async with received(request, limit_mb=services.settings.http.max_dataset_mb) as form:
        ingested = await _ingested(services, form)
        await add_version(
            services.store,
            services.artifacts,
            access,
            dataset_id,
            TableFile(ingested.path, ingested.rows, ingested.columns),
            precondition=precondition,
            file_name=form.file_name,
        )
    view = await _view(services.pool, access, dataset_id)
    return _changed_reply(view, ingested, Members(form.fields, "", []))


@get(
    "/dataset",
    right=Right.READ,
    operation=Operation(
        id="listDatasets",
        tag=TAG,
        summary="List datasets",
        description=LIST_NOTES,
        parameters=LIST_PARAMETERS,
        answers={
            200: Answer(
                description="The datasets.",
                schema=DatasetList,
                example=examples.DATASET_LIST,
                headers=LIST_HEADERS,
            )
        },
        problems=(Code.PROJECT_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_datasets(request: Request[Any, Any, Any]) -> Reply:
    """A page of the project's datasets."""
    services, access = services_of(request), access_of(request)

    def read(page: int, size: int) -> Awaitable[Page]:
        return dataset_details.page(
            services.pool, access.tenant_id, access.project_id, page=page, page_size=size
        )

    return await page_reply(request, Query(request), "datasets", dataset_details.NAME, read)


@get(
    "/dataset/{dataset_id:str}",
    right=Right.READ,
    operation=Operation(
        id="getDataset",
        tag=TAG,
        summary="Get dataset details",
        description="Its columns with their types, its rows, and the newest 100 versions with "
        "where each came from, and its columns where they differ from those of the version after "
        "it. As of now: never behind what an earlier request has changed.",
        parameters=(IF_NONE_MATCH, IF_MODIFIED_SINCE),
        answers={
            200: Answer(
                description="The dataset.",
                schema=DatasetDocument,
                example=examples.DATASET,
                headers=ETAG,
            ),
            304: NOT_MODIFIED,
        },
        problems=(Code.DATASET_NOT_FOUND,),
    ),
)
async def get_dataset(request: Request[Any, Any, Any]) -> Reply:
    """The dataset."""
    view = await _view(services_of(request).pool, access_of(request), dataset_id_of(request))
    return document_reply(request, view.document, etag=etag(view), modified_at=view.modified_at)


@get(
    "/dataset/{dataset_id:str}/download",
    right=Right.READ,
    operation=Operation(
        id="downloadDataset",
        tag=TAG,
        summary="Download a dataset",
        description="Parquet as it is kept, of which ranges can be asked for; or CSV in UTF-8.",
        parameters=(
            Parameter(
                name="format",
                description="What to make of it.",
                schema={"type": "string", "enum": list(FORMATS), "default": "csv"},
            ),
            Parameter(
                name="version",
                description="By default the newest.",
                schema={"type": "integer", "minimum": 1},
            ),
            *RANGE_PARAMETERS,
        ),
        answers=ANSWERS,
        problems=(
            Code.DATASET_NOT_FOUND,
            Code.ARTIFACT_NOT_FOUND,
            Code.RANGE_NOT_SATISFIABLE,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def download(request: Request[Any, Any, Any]) -> Reply:
    """The table of one version."""
    services, access = services_of(request), access_of(request)
    dataset_id = dataset_id_of(request)
    query = Query(request)
    wanted = query.choice("format", FORMATS) or "csv"
    version = query.integer("version", 0, low=1, high=1_000_000_000) or None
    query.check()
    head = await _head(services, access, dataset_id, version)
    file_name = f"{safe_file_name(head.name, default='dataset')}.{wanted}"
    stored = await services.artifacts.find(head.scope, head.content.digest)
    if wanted == "parquet":
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


@delete(
    "/dataset/{dataset_id:str}",
    status_code=200,
    right=Right.WRITE,
    operation=Operation(
        id="deleteDataset",
        tag=TAG,
        summary="Delete a dataset",
        description="Permanently, with all its versions. Notebooks that are bound to it stay so.",
        parameters=(IF_MATCH,),
        answers={204: Answer(description="The dataset is deleted.")},
        problems=(Code.DATASET_NOT_FOUND, Code.CONFLICT, Code.PRECONDITION_FAILED),
    ),
)
async def delete_(request: Request[Any, Any, Any]) -> Reply:
    """Nothing."""
    await delete_dataset(
        services_of(request).store,
        access_of(request),
        dataset_id_of(request),
        precondition=if_match(request.headers.get("if-match")),
    )
    return empty_reply(204)


async def _ingested(services: Services, form: Form) -> Ingested:
    """The table made of the form's file, which is gone then."""
    async with services.conversions:
        most_bytes = services.settings.http.max_dataset_mb * MIB
        ingested = await ingest_csv(form.path, form.path.parent, most_bytes=most_bytes)
    await asyncio.to_thread(form.path.unlink)
    return ingested


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


def _name(fields: Members, file_name: str) -> str:
    name = fields.take("datasetName", str, "").strip()
    if not name:
        plain = file_name[:-3] if file_name.lower().endswith(".gz") else file_name
        name = plain.rpartition(".")[0].strip() or plain or "Untitled"
        return name[:MAX_NAME]
    if len(name) > MAX_NAME:
        reason = f"must have at most {MAX_NAME} characters"
        raise InvalidInputError([Fault("/datasetName", reason)])
    return name


async def _view(pool: Pool, access: Caller, dataset_id: UUID) -> View:
    view = await dataset_details.get(pool, access.tenant_id, access.project_id, dataset_id)
    if view is None:
        raise DatasetNotFoundError(dataset_id)
    return view


def _changed_reply(
    view: View,
    ingested: Ingested,
    fields: Members,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Reply:
    parsing = CsvParsing(
        encoding=ingested.encoding,
        delimiter=ingested.delimiter,
        compression=ingested.compression or msgspec.UNSET,
    )
    warnings = list(ingested.warnings)
    fields.warn_of_unknown(warnings)
    return json_reply(
        with_members(view.document, parsing=parsing, warnings=warnings),
        status=status,
        headers={**state_headers(view), **(headers or {})},
    )


HANDLERS: list[Any] = [list_datasets, get_dataset, download, delete_, create, update]
