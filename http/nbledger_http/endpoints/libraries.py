"""Libraries of a project: upload a wheel, list, read, download, delete."""

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, delete, get, post

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.change_library import delete_library, upload_library
from nbledger_application.commands.loading import load_library
from nbledger_application.idempotency import RequestKey
from nbledger_domain.errors import LibraryNotFoundError
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_http.description import examples
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
    FilePart,
    Operation,
)
from nbledger_http.description.schemas import PageBody
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, empty_reply, json_reply
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
from nbledger_http.representations.principals import with_name
from nbledger_http.representations.stored_files import ANSWERS, RANGE_HEADERS, file_reply
from nbledger_http.requests import queries
from nbledger_http.requests.declared import NoFields
from nbledger_http.requests.forms import received
from nbledger_http.requests.queries import Paging
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, library_id_of
from nbledger_infrastructure.packages.wheels import read_wheel
from nbledger_projections.machinery.documents import Page, View
from nbledger_projections.read_models import library_details
from nbledger_projections.read_models.library_details import LibraryDocument, LibraryItemDocument

TAG = "Libraries"
UPLOAD = "uploadLibrary"


class LibraryList(PageBody, rename="camel", kw_only=True):
    """A page of the project's libraries, newest upload first."""

    libraries: list[LibraryItemDocument]


@post(
    "/library",
    right=Right.WRITE,
    operation=Operation(
        id=UPLOAD,
        tag=TAG,
        summary="Upload a library as a wheel",
        description="Notebooks of the project that name it in `customLibraries` get its newest "
        "version. A wheel never changes: the same once more is answered with the library that is "
        "there, another one of the same name and version is refused.",
        headers=(IDEMPOTENCY_KEY,),
        body=Body(
            schema=NoFields,
            media_type="multipart/form-data",
            file=FilePart(
                media_type="application/zip", description="The wheel, by its own file name."
            ),
        ),
        answers={
            201: Answer(
                description="The library as uploaded.",
                schema=LibraryDocument,
                opens="libraryId",
                example=examples.LIBRARY,
                headers={**LOCATION, **ETAG, **POSITION, **REPLAYED},
            ),
            200: Answer(
                description="The library that this very wheel is already.",
                schema=LibraryDocument,
                opens="libraryId",
                example=examples.LIBRARY,
                headers={**LOCATION, **ETAG, **POSITION},
            ),
        },
        problems=(
            Code.PROJECT_NOT_FOUND,
            Code.LIBRARY_NOT_FOUND,
            Code.LIBRARY_EXISTS,
            Code.CONFLICT,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
            Code.INVALID_WHEEL,
            *IDEMPOTENCY_PROBLEMS,
        ),
    ),
)
async def upload(request: Request[Any, Any, Any]) -> Reply:
    """A new library, or the one that is there already."""
    services, access = services_of(request), access_of(request)
    async with received(request, limit_mb=services.settings.http.max_library_mb) as form:
        asked = [form.file_name, *await file_digests(request, [form.path])]

        async def make(key: RequestKey | None) -> New:
            async with services.inspections:
                wheel = await asyncio.to_thread(read_wheel, form.path, form.file_name)
            library_id, new = await upload_library(
                services.pool,
                services.store,
                services.artifacts,
                access,
                wheel=wheel,
                path=form.path,
                file_name=form.file_name,
                key=None if key is None else key.answering({"new": True}),
            )
            return New(library_id, {"new": new}, recorded=new)

        return await once(request, UPLOAD, lambda: asked, make, partial(_uploaded, request))


async def _uploaded(
    request: Request[Any, Any, Any], library_id: UUID, told: Mapping[str, Any]
) -> Reply:
    access = access_of(request)
    view = await _view(services_of(request), access, library_id)
    location = project_path(access.tenant_id, access.project_id, "library", library_id)
    return json_reply(
        view.document,
        status=201 if told["new"] else 200,
        headers={"Location": location, **state_headers(view)},
    )


@get(
    "/library",
    right=Right.READ,
    operation=Operation(
        id="listLibraries",
        tag=TAG,
        summary="List libraries",
        description=LIST_NOTES,
        query=Paging,
        headers=READ_OWN_WRITES,
        answers={
            200: Answer(
                description="The libraries.",
                schema=LibraryList,
                example=examples.LIBRARY_LIST,
                headers=LIST_HEADERS,
            )
        },
        problems=(Code.PROJECT_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_libraries(request: Request[Any, Any, Any]) -> Reply:
    """A page of the project's libraries."""
    services, access = services_of(request), access_of(request)

    def read(page: int, size: int) -> Awaitable[Page]:
        return library_details.page(
            services.pool, access.tenant_id, access.project_id, page=page, page_size=size
        )

    asked = queries.read(request, Paging)
    return await page_reply(request, asked, "libraries", library_details.NAME, read)


@get(
    "/library/{library_id:str}",
    right=Right.READ,
    operation=Operation(
        id="getLibrary",
        tag=TAG,
        summary="Get a library",
        description="As of now: never behind what an earlier request has changed.",
        headers=READ_CONDITIONS,
        answers={
            200: Answer(
                description="The library.",
                schema=LibraryDocument,
                example=examples.LIBRARY,
                headers=ETAG,
            ),
            304: NOT_MODIFIED,
        },
        problems=(Code.LIBRARY_NOT_FOUND, Code.PRECONDITION_FAILED),
    ),
)
async def get_library(request: Request[Any, Any, Any]) -> Reply:
    """The library."""
    view = await _view(services_of(request), access_of(request), library_id_of(request))
    return document_reply(request, view.document, etag=etag(view), modified_at=view.modified_at)


@get(
    "/library/{library_id:str}/download",
    right=Right.READ,
    operation=Operation(
        id="downloadLibrary",
        tag=TAG,
        summary="Download the wheel of a library",
        headers=RANGE_HEADERS,
        answers=ANSWERS,
        problems=(
            Code.LIBRARY_NOT_FOUND,
            Code.ARTIFACT_NOT_FOUND,
            Code.RANGE_NOT_SATISFIABLE,
            Code.PRECONDITION_FAILED,
        ),
    ),
)
async def download(request: Request[Any, Any, Any]) -> Reply:
    """The wheel as it was uploaded."""
    services, access = services_of(request), access_of(request)
    library_id = library_id_of(request)
    library = (await load_library(services.store, access, library_id)).aggregate
    stored = await services.artifacts.find(access.scope(library_id), library.content.digest)
    return file_reply(
        request,
        services.artifacts,
        stored,
        content_type=library.content.content_type,
        file_name=library.file_name,
        # Installers read name, version and tags from it.
        exact=True,
    )


@delete(
    "/library/{library_id:str}",
    status_code=200,
    right=Right.WRITE,
    operation=Operation(
        id="deleteLibrary",
        tag=TAG,
        summary="Delete a library",
        description="Permanently. Notebooks go on naming it, and get the newest version that is "
        "left, if there is one.",
        headers=PRECONDITIONS,
        answers={204: Answer(description="The library is deleted.")},
        problems=(Code.LIBRARY_NOT_FOUND, Code.CONFLICT, Code.PRECONDITION_FAILED),
    ),
)
async def delete_(request: Request[Any, Any, Any]) -> Reply:
    """Nothing."""
    await delete_library(
        services_of(request).store,
        access_of(request),
        library_id_of(request),
        precondition=precondition_of(request),
    )
    return empty_reply(204)


async def _view(services: Services, access: Caller, library_id: UUID) -> View:
    view = await library_details.get(services.pool, access.tenant_id, access.project_id, library_id)
    if view is None:
        raise LibraryNotFoundError(library_id)
    document = await with_name(services.names, access.tenant_id, view.document, "uploadedBy")
    return msgspec.structs.replace(view, document=document)


HANDLERS: list[Any] = [upload, list_libraries, get_library, download, delete_]
