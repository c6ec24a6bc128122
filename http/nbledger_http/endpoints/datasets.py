"""Datasets: upload, list, read, give a new version, delete."""

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, delete, get, post, put
from msgspec import Meta

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.dataset_versions import (
    TableFile,
    add_version,
    create_dataset,
    delete_dataset,
)
from nbledger_application.commands.loading import load_dataset
from nbledger_application.idempotency import RequestKey
from nbledger_domain.errors import DatasetNotFoundError
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_domain.vocabulary.units import MIB
from nbledger_http.description import examples
from nbledger_http.description.documentation import (
    AS_OF_POSITION,
    AS_OF_PROBLEMS,
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
    FilePart,
    Operation,
)
from nbledger_http.description.schemas import CsvParsing, PageBody
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, empty_reply, json_reply, with_members
from nbledger_http.representations import past
from nbledger_http.representations.conditional import document_reply, precondition_of
from nbledger_http.representations.documents import (
    LIST_HEADERS,
    LIST_NOTES,
    READ_OWN_WRITES,
    etag,
    page_reply,
    state_headers,
)
from nbledger_http.representations.idempotency import New, file_digests, once
from nbledger_http.representations.principals import with_names_within
from nbledger_http.requests import queries
from nbledger_http.requests.declared import FaultReport, NoFields, read_form
from nbledger_http.requests.forms import Form, received
from nbledger_http.requests.past.moments import NOTES as AS_OF_NOTES
from nbledger_http.requests.past.moments import AsOfQuery, as_of
from nbledger_http.requests.queries import Paging
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, dataset_id_of
from nbledger_infrastructure.datasets.ingest import Ingested, ingest_csv
from nbledger_projections.machinery.documents import Page, View
from nbledger_projections.read_models import dataset_details
from nbledger_projections.read_models.dataset_details import DatasetDocument, DatasetItemDocument

TAG = "Datasets"
CREATE = "createDataset"
MAX_NAME = 200

FILE = FilePart(media_type="text/csv", description="The table; its first row names the columns.")
UPLOAD_NOTES = (
    "Commas, semicolons, tabs and bars are known as delimiters; UTF-8, UTF-16 (with a byte order "
    "mark) and Windows-1252 as encodings; which it is, is found out. So are the types of the "
    "columns, from all rows. The file may be packed by gzip; a workbook, an archive, an HTML page "
    "and other files that are no CSV are refused with what they are. A column that the header does "
    "not name is called `Unnamed: 0` after its place, counted from 0, and `warnings` tells it. "
    "A file that is not a table is refused with row, column and reason."
)


DatasetName = Annotated[
    str, Meta(max_length=MAX_NAME, description="By default the name of the file.")
]


class DatasetForm(msgspec.Struct, rename="camel"):
    """What may be said of an uploaded table."""

    dataset_name: DatasetName | None = None


class ChangedDataset(DatasetDocument, rename="camel", kw_only=True):
    """The whole dataset, how the file was read, and which fields of the form were ignored."""

    parsing: CsvParsing
    warnings: list[str]


class DatasetList(PageBody, rename="camel", kw_only=True):
    """A page of the project's datasets, newest first."""

    datasets: list[DatasetItemDocument]


@post(
    "/dataset/csv",
    right=Right.WRITE,
    operation=Operation(
        id=CREATE,
        tag=TAG,
        summary="Upload a dataset as CSV",
        description=UPLOAD_NOTES,
        headers=(IDEMPOTENCY_KEY,),
        body=Body(schema=DatasetForm, media_type="multipart/form-data", file=FILE),
        answers={
            201: Answer(
                description="The dataset as created.",
                schema=ChangedDataset,
                opens="datasetId",
                example=examples.NEW_DATASET,
                headers={**LOCATION, **ETAG, **POSITION, **REPLAYED},
            )
        },
        problems=(
            Code.PROJECT_NOT_FOUND,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
            Code.INVALID_CSV,
            *IDEMPOTENCY_PROBLEMS,
        ),
    ),
)
async def create(request: Request[Any, Any, Any]) -> Reply:
    """A new dataset."""
    services, access = services_of(request), access_of(request)
    async with received(request, limit_mb=services.settings.http.max_dataset_mb) as form:
        report = FaultReport()
        asked = read_form(DatasetForm, form.fields, report)
        report.check()
        name = (asked.dataset_name or "").strip() or _default_name(form.file_name)
        digests = await file_digests(request, [form.path])

        async def make(key: RequestKey | None) -> New:
            ingested = await _ingested(services, form)
            told = _told_of(ingested, report)
            dataset_id = await create_dataset(
                services.store,
                services.artifacts,
                access,
                TableFile(ingested.path, ingested.rows, ingested.columns),
                name=name,
                file_name=form.file_name,
                key=None if key is None else key.answering(told),
            )
            return New(dataset_id, told)

        return await once(
            request,
            CREATE,
            lambda: [name, form.file_name, *digests],
            make,
            partial(_created, request),
        )


async def _created(
    request: Request[Any, Any, Any], dataset_id: UUID, told: Mapping[str, Any]
) -> Reply:
    access = access_of(request)
    view = await _view(services_of(request), access, dataset_id)
    location = project_path(access.tenant_id, access.project_id, "dataset", dataset_id)
    return _changed_reply(view, told, status=201, headers={"Location": location})


@put(
    "/dataset/{dataset_id:str}/csv",
    right=Right.WRITE,
    operation=Operation(
        id="addDatasetVersion",
        tag=TAG,
        summary="Upload a new version of a dataset as CSV",
        description="Earlier versions stay. " + UPLOAD_NOTES,
        headers=PRECONDITIONS,
        body=Body(schema=NoFields, media_type="multipart/form-data", file=FILE),
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
    precondition = precondition_of(request)
    dataset = (await load_dataset(services.store, access, dataset_id)).aggregate
    precondition.check(dataset.version, dataset.modified_on, "dataset")
    report = FaultReport()
    async with received(request, limit_mb=services.settings.http.max_dataset_mb) as form:
        read_form(NoFields, form.fields, report)
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
    view = await _view(services, access, dataset_id)
    return _changed_reply(view, _told_of(ingested, report))


@get(
    "/dataset",
    right=Right.READ,
    operation=Operation(
        id="listDatasets",
        tag=TAG,
        summary="List datasets",
        description=LIST_NOTES,
        query=Paging,
        headers=READ_OWN_WRITES,
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

    asked = queries.read(request, Paging)
    return await page_reply(request, asked, "datasets", dataset_details.NAME, read)


@get(
    "/dataset/{dataset_id:str}",
    right=Right.READ,
    operation=Operation(
        id="getDataset",
        tag=TAG,
        summary="Get dataset details",
        description="Its columns with their types, its rows, and the newest 100 versions with "
        "where each came from, and its columns where they differ from those of the version after "
        "it. As of now: never behind what an earlier request has changed." + AS_OF_NOTES,
        query=AsOfQuery,
        headers=READ_CONDITIONS,
        answers={
            200: Answer(
                description="The dataset.",
                schema=DatasetDocument,
                example=examples.DATASET,
                headers={**ETAG, **AS_OF_POSITION},
            ),
            304: NOT_MODIFIED,
        },
        problems=(
            Code.DATASET_NOT_FOUND,
            *AS_OF_PROBLEMS,
            Code.PRECONDITION_FAILED,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def get_dataset(request: Request[Any, Any, Any]) -> Reply:
    """The dataset."""
    services, access = services_of(request), access_of(request)
    dataset_id, wanted = dataset_id_of(request), as_of(request, AsOfQuery)
    moment = None
    if wanted is None:
        view = await _view(services, access, dataset_id)
    else:
        found, moment = await past.dataset(services, access, dataset_id, wanted)
        view = await _named(services, access, found)
    return document_reply(
        request,
        view.document,
        etag=etag(view),
        modified_at=view.modified_at,
        headers=None if moment is None else past.position_header(moment),
    )


@delete(
    "/dataset/{dataset_id:str}",
    status_code=200,
    right=Right.WRITE,
    operation=Operation(
        id="deleteDataset",
        tag=TAG,
        summary="Delete a dataset",
        description="Permanently, with all its versions. Notebooks that are bound to it stay so.",
        headers=PRECONDITIONS,
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
        precondition=precondition_of(request),
    )
    return empty_reply(204)


async def _ingested(services: Services, form: Form) -> Ingested:
    """The table made of the form's file, which is gone then."""
    async with services.conversions:
        most_bytes = services.settings.http.max_dataset_mb * MIB
        ingested = await ingest_csv(form.path, form.path.parent, most_bytes=most_bytes)
    await asyncio.to_thread(form.path.unlink)
    return ingested


def _default_name(file_name: str) -> str:
    plain = file_name[:-3] if file_name.lower().endswith(".gz") else file_name
    return (plain.rpartition(".")[0].strip() or plain or "Untitled")[:MAX_NAME]


async def _view(services: Services, access: Caller, dataset_id: UUID) -> View:
    view = await dataset_details.get(services.pool, access.tenant_id, access.project_id, dataset_id)
    if view is None:
        raise DatasetNotFoundError(dataset_id)
    return await _named(services, access, view)


async def _named(services: Services, access: Caller, view: View) -> View:
    document = await with_names_within(
        services.names, access.tenant_id, view.document, "createdBy", "versions"
    )
    return msgspec.structs.replace(view, document=document)


def _told_of(ingested: Ingested, report: FaultReport) -> dict[str, Any]:
    """What the answer tells of an upload, beside the dataset."""
    parsing = CsvParsing(
        encoding=ingested.encoding,
        delimiter=ingested.delimiter,
        compression=ingested.compression or msgspec.UNSET,
    )
    return {"parsing": parsing, "warnings": [*ingested.warnings, *report.warnings]}


def _changed_reply(
    view: View,
    told: Mapping[str, Any],
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Reply:
    return json_reply(
        with_members(view.document, **told),
        status=status,
        headers={**state_headers(view), **(headers or {})},
    )


HANDLERS: list[Any] = [list_datasets, get_dataset, delete_, create, update]
