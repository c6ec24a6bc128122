"""Input files: put beside a notebook, listed, downloaded, replaced, removed."""

import unicodedata
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, unquote_to_bytes
from uuid import UUID

import msgspec
from litestar import Request, delete, get, post, put

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.change_files import FilesPut, put_files, remove_file
from nbledger_application.commands.loading import load_notebook
from nbledger_application.idempotency import RequestKey
from nbledger_domain.errors import (
    Fault,
    InputFileNotFoundError,
    InvalidFilesError,
)
from nbledger_domain.input_files import MAX_PATH_BYTES, InvalidPathError, checked_path, total_size
from nbledger_domain.notebook import Notebook
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_domain.vocabulary.windows_names import windows_warnings
from nbledger_http.endpoints.input_file_operations import (
    ADD,
    DOWNLOAD,
    LIST,
    PUT_ONE,
    REMOVE,
    FileList,
    FileListQuery,
    FileQuery,
    FilesChanged,
    FilesForm,
)
from nbledger_http.replies.responses import Reply, empty_reply, json_reply
from nbledger_http.representations import resources
from nbledger_http.representations.conditional import document_reply, precondition_of
from nbledger_http.representations.idempotency import New, file_digests, once
from nbledger_http.representations.stored_files import file_reply
from nbledger_http.requests import queries
from nbledger_http.requests.bundles import check_sizes, file_limits
from nbledger_http.requests.declared import FaultReport, read_form
from nbledger_http.requests.forms import (
    Bounds,
    FileForm,
    receive_body,
    receive_files,
    upload_folder,
)
from nbledger_http.requests.json_bodies import MAX_TOLD
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, execution_id_in, notebook_id_of
from nbledger_infrastructure.notebooks.bundles import SideFile
from nbledger_projections.read_models.notebooks.documents import FileDocument
from nbledger_projections.read_models.notebooks.folding import file_document


class _Asked(msgspec.Struct, frozen=True):
    """Files that have come; ``pointer`` leads to what tells their paths."""

    files: list[SideFile]
    pointer: str
    replace: bool
    warnings: list[str] = []

    @property
    def paths(self) -> list[str]:
        return [file.path for file in self.files]


class _Held(msgspec.Struct, rename="camel"):
    notebook_version: str
    files: list[FileDocument] = []


@post(
    "/notebook/{notebook_id:str}/file",
    right=Right.WRITE,
    operation=ADD,
)
async def add(request: Request[Any, Any, Any]) -> Reply:
    """The files as they are kept."""
    services, access = services_of(request), access_of(request)
    http = services.settings.http
    notebook_id = notebook_id_of(request)
    await load_notebook(services.store, access, notebook_id)
    bounds = Bounds(
        count=http.max_input_files,
        total_mb=http.max_input_mb,
        each_mb=lambda _: http.max_input_file_mb,
    )
    async with upload_folder(request) as folder:
        asked = _asked(await receive_files(request, folder, bounds))
        digests = await file_digests(request, [file.location for file in asked.files])

        async def make(key: RequestKey | None) -> New:
            return await _put(request, notebook_id, asked, key)

        return await once(
            request,
            ADD.id,
            lambda: [notebook_id, asked.replace, sorted(zip(asked.paths, digests, strict=True))],
            make,
            partial(_changed, request),
        )


@put(
    "/notebook/{notebook_id:str}/file/{path:path}",
    right=Right.WRITE,
    operation=PUT_ONE,
)
async def put_one(request: Request[Any, Any, Any]) -> Reply:
    """The file as it is kept."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    await load_notebook(services.store, access, notebook_id)
    try:
        path = checked_path(_path_of(request).encode().decode())
    except InvalidPathError as invalid:
        raise InvalidFilesError([Fault("/path", str(invalid))]) from None
    except UnicodeError:
        raise InvalidFilesError([Fault("/path", "The path is no text in UTF-8")]) from None
    async with upload_folder(request) as folder:
        limit_mb = services.settings.http.max_input_file_mb
        file = await receive_body(request, folder, path, limit_mb=limit_mb)
        asked = _Asked([SideFile(path, file.path, file.size)], pointer="/path", replace=True)
        new = await _put(request, notebook_id, asked)
        return await _changed(request, new.stream_id, new.answer)


@get(
    "/notebook/{notebook_id:str}/files",
    right=Right.READ,
    operation=LIST,
)
async def list_files(request: Request[Any, Any, Any]) -> Reply:
    """A page of the notebook's files."""
    query = queries.checked(request, FileListQuery)
    page, size = query.page, query.page_size
    notebook = await _notebook(request, query.execution_id)
    paths = sorted(notebook.files)
    first = (page - 1) * size
    found = FileList(
        files=[file_document(notebook.files[path]) for path in paths[first : first + size]],
        notebook_version=notebook.notebook_version,
        total_size=total_size(notebook.files),
        total_count=len(paths),
        page=page,
        page_size=size,
        has_next_page=first + size < len(paths),
    )
    return document_reply(
        request,
        msgspec.json.encode(found),
        etag=f'"v{notebook.version}"',
        modified_at=notebook.modified_on,
        by_time=False,
    )


@get(
    "/notebook/{notebook_id:str}/file/{path:path}",
    right=Right.READ,
    operation=DOWNLOAD,
)
async def download(request: Request[Any, Any, Any]) -> Reply:
    """The file, or a part of it."""
    services, access = services_of(request), access_of(request)
    query = queries.checked(request, FileQuery)
    notebook = await _notebook(request, query.execution_id)
    path = _known(_path_of(request))
    file = notebook.files.get(path)
    if file is None:
        raise InputFileNotFoundError(path)
    return file_reply(
        request,
        services.artifacts,
        await services.artifacts.find(access.scope(notebook.id), file.digest),
        content_type=file.content_type,
        file_name=path.rpartition("/")[2],
    )


@delete(
    "/notebook/{notebook_id:str}/file/{path:path}",
    status_code=200,
    right=Right.WRITE,
    operation=REMOVE,
)
async def remove(request: Request[Any, Any, Any]) -> Reply:
    """Nothing."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    await remove_file(
        services.store,
        access,
        notebook_id,
        _known(_path_of(request)),
        precondition=precondition_of(request),
    )
    view = await resources.notebook(services.pool, access, notebook_id)
    return empty_reply(204, {"Nbledger-Position": str(view.position)})


async def _put(
    request: Request[Any, Any, Any],
    notebook_id: UUID,
    asked: _Asked,
    key: RequestKey | None = None,
) -> New:
    services, access = services_of(request), access_of(request)
    check_sizes(asked.files, services.settings.http)
    warnings = [*asked.warnings, *windows_warnings(asked.paths)]

    def told(done: FilesPut) -> dict[str, Any]:
        return {"paths": asked.paths, "warnings": warnings, "new": bool(done.new)}

    try:
        done = await put_files(
            services.store,
            services.artifacts,
            access,
            notebook_id,
            asked.files,
            replace=asked.replace,
            precondition=precondition_of(request),
            limits=file_limits(services.settings.http),
            key_of=None if key is None else lambda done: key.answering(told(done)),
        )
    except InvalidFilesError as invalid:
        faults = [Fault(asked.pointer, fault.reason) for fault in invalid.faults]
        raise InvalidFilesError(faults) from None
    return New(notebook_id, told(done), recorded=done.changed)


async def _changed(
    request: Request[Any, Any, Any], notebook_id: UUID, told_of: Mapping[str, Any]
) -> Reply:
    access = access_of(request)
    view = await resources.notebook(services_of(request).pool, access, notebook_id)
    held = msgspec.json.decode(view.document, type=_Held)
    wanted = set(told_of["paths"])
    told = [file for file in held.files if file.path in wanted]
    changed = FilesChanged(
        files=told,
        notebook_version=held.notebook_version,
        notebook_etag=resources.notebook_etag(view),
        warnings=told_of["warnings"],
    )
    headers = {"Nbledger-Position": str(view.position)}
    if len(told) == 1:
        base = project_path(access.tenant_id, access.project_id, "notebook", view.notebook_id)
        headers["Location"] = f"{base}/file/{quote(told[0].path)}"
        headers["ETag"] = f'"{told[0].digest}"'
    return json_reply(
        msgspec.json.encode(changed), status=201 if told_of["new"] else 200, headers=headers
    )


def _asked(form: FileForm) -> _Asked:
    """The files at the paths that were asked for."""
    report = FaultReport()
    asked = read_form(FilesForm, form.fields, report)
    path = asked.path
    if path is not None and len(form.files) > 1:
        report.fault("/path", "can be told of one file only; others go by their file names")
    report.check()
    told = [(each.name if path is None else path, each) for each in form.files]
    pointer = "/file" if path is None else "/path"
    files: list[SideFile] = []
    faults: list[Fault] = []
    for name, each in told:
        try:
            files.append(SideFile(checked_path(name), each.path, each.size))
        except InvalidPathError as invalid:
            faults.append(Fault(pointer, str(invalid)))
    if faults:
        raise InvalidFilesError(faults[:MAX_TOLD])
    return _Asked(files, pointer, asked.replace, report.warnings)


def _known(text: str) -> str:
    """The path in the form that it would be kept in, whether one may be kept there now or not."""
    return unicodedata.normalize("NFC", text)[: MAX_PATH_BYTES + 1]


def _path_of(request: Request[Any, Any, Any]) -> str:
    """The path as it was sent: what routes requests has put double and last slashes right."""
    raw: bytes = request.scope["raw_path"]
    _, _, path = raw.partition(b"/file/")
    return unquote_to_bytes(path).decode("utf-8", "surrogateescape")


async def _notebook(request: Request[Any, Any, Any], execution_id: str | None) -> Notebook:
    """The notebook as it is now, or as the execution had it."""
    services, access = services_of(request), access_of(request)
    version = None
    if execution_id is not None:
        version = await _version_of(services, access, request, execution_id)
    loaded = await load_notebook(
        services.store, access, notebook_id_of(request), up_to_version=version
    )
    return loaded.aggregate


async def _version_of(
    services: Services, access: Caller, request: Request[Any, Any, Any], execution_id: str
) -> int:
    results = await resources.results(
        services.pool, access, notebook_id_of(request), execution_id_in(execution_id)
    )
    return results.notebook_stream_version


HANDLERS: list[Any] = [add, put_one, list_files, download, remove]
