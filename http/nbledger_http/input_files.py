"""Input files: put beside a notebook, listed, downloaded, replaced, removed."""

from typing import Any
from urllib.parse import quote, unquote_to_bytes
from uuid import UUID

import msgspec
from litestar import Request, delete, get, post, put

from nbledger_domain.errors import (
    Fault,
    InputFileExistsError,
    InputFileNotFoundError,
    InvalidFilesError,
    InvalidInputError,
)
from nbledger_domain.input_files import InvalidPathError, checked_path, total_size
from nbledger_domain.notebook import Notebook
from nbledger_http import examples, reading
from nbledger_http.access import Access, Right, access_of, execution_id_in, notebook_id_of
from nbledger_http.checking import Members
from nbledger_http.commands.change_files import put_files, remove_file
from nbledger_http.commands.load_notebook import load_notebook
from nbledger_http.conditional import Precondition, document_reply
from nbledger_http.documentation import (
    ETAG,
    IF_NONE_MATCH,
    LOCATION,
    NOT_MODIFIED,
    PAGE,
    PAGE_SIZE,
    POSITION,
    Answer,
    Body,
    Operation,
    Parameter,
)
from nbledger_http.files import ANSWERS, RANGE_PARAMETERS, file_reply
from nbledger_http.forms import Bounds, FileForm, receive_body, receive_files, upload_folder
from nbledger_http.problems import Code, Problem
from nbledger_http.queries import Query
from nbledger_http.received_bundles import check_sizes, file_limits
from nbledger_http.replies import Reply, empty_reply, json_reply
from nbledger_http.requests import boolean
from nbledger_http.services import Services, services_of
from nbledger_infrastructure.bundles import SideFile
from nbledger_projections.notebook_details import FileDocument, NotebookView, file_document

TAG = "Input files"

FORM = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "application/octet-stream",
            "description": "The file. Its name is its path below the notebook's folder, unless "
            "`path` tells one. Several parts of this name are several files.",
        },
        "path": {
            "type": "string",
            "maxLength": 1000,
            "description": "The path below the notebook's folder, such as data/input.csv; only "
            "with one file.",
        },
        "replace": {
            "type": "boolean",
            "default": False,
            "description": "Whether other files at the same paths are replaced, not refused.",
        },
    },
    "required": ["file"],
}
IF_MATCH_EITHER = Parameter(
    name="If-Match",
    place="header",
    description="The entity tag of the notebook, or of the file, that was read: when it has "
    "changed since, nothing is done (412).",
    schema={"type": "string"},
)
OF_EXECUTION = Parameter(
    name="executionId",
    description="As this execution had it.",
    schema={"type": "string", "format": "uuid"},
)
_CHANGE_PROBLEMS = (
    Code.NOTEBOOK_NOT_FOUND,
    Code.CONFLICT,
    Code.PRECONDITION_FAILED,
    Code.BODY_TOO_LARGE,
    Code.FILES_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.INVALID_FILES,
    Code.VALIDATION_FAILED,
)
_CHANGE_HEADERS = {"ETag": "The SHA-256 of the file, where it is one.", **POSITION}


class FilesChanged(msgspec.Struct, rename="camel"):
    """The files that were sent, as they are kept now, and the notebook's new version."""

    files: list[FileDocument]
    notebook_version: str
    notebook_etag: str
    warnings: list[str]


class FileList(msgspec.Struct, rename="camel"):
    """A page of a notebook's input files, by path; ``total_size`` is of all, in bytes."""

    files: list[FileDocument]
    notebook_version: str
    total_size: int
    total_count: int
    page: int
    page_size: int
    has_next_page: bool


class _Held(msgspec.Struct, rename="camel"):
    notebook_version: str
    files: list[FileDocument] = []


@post(
    "/notebook/{notebook_id:str}/file",
    right=Right.WRITE,
    operation=Operation(
        id="addFiles",
        tag=TAG,
        summary="Put files beside a notebook",
        description="Runs that are asked for from then on find them in their folder. The same "
        "content at the same path changes nothing; another one is refused unless `replace` is "
        "true. Of several files all are kept or none. A change raises the minor part of "
        "notebookVersion.",
        parameters=(IF_MATCH_EITHER,),
        body=Body(schema=FORM, media_type="multipart/form-data"),
        answers={
            201: Answer(
                description="The files; at least one path is new.",
                schema=FilesChanged,
                opens="files/0/path",
                example=examples.FILES_CHANGED,
                headers={**LOCATION, **_CHANGE_HEADERS},
            ),
            200: Answer(
                description="The files; all were there already, or have been replaced.",
                schema=FilesChanged,
                opens="files/0/path",
                example=examples.FILES_CHANGED,
                headers={**LOCATION, **_CHANGE_HEADERS},
            ),
        },
        problems=(*_CHANGE_PROBLEMS, Code.FILE_EXISTS),
    ),
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
        form = await receive_files(request, folder, bounds)
        files, replace, warnings = _asked(form)
        return await _put(request, notebook_id, files, replace=replace, warnings=warnings)


@put(
    "/notebook/{notebook_id:str}/file/{path:path}",
    right=Right.WRITE,
    operation=Operation(
        id="putFile",
        tag=TAG,
        summary="Put one file beside a notebook, or replace it",
        description="The body is the file as it is. With `If-None-Match: *` nothing is replaced.",
        parameters=(
            IF_MATCH_EITHER,
            Parameter(
                name="If-None-Match",
                place="header",
                description="*: only where no other file is there (412).",
                schema={"type": "string"},
            ),
        ),
        body=Body(schema={"type": "string"}, media_type="application/octet-stream"),
        answers={
            201: Answer(
                description="The file, which is new.",
                schema=FilesChanged,
                example=examples.FILES_CHANGED,
                headers={**LOCATION, **_CHANGE_HEADERS},
            ),
            200: Answer(
                description="The file, which was there, or has taken another one's place.",
                schema=FilesChanged,
                example=examples.FILES_CHANGED,
                headers={**LOCATION, **_CHANGE_HEADERS},
            ),
        },
        problems=_CHANGE_PROBLEMS,
    ),
)
async def put_one(request: Request[Any, Any, Any]) -> Reply:
    """The file as it is kept."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    await load_notebook(services.store, access, notebook_id)
    path = _checked(_path_of(request), "")
    only_new = request.headers.get("if-none-match", "").strip() == "*"
    async with upload_folder(request) as folder:
        limit_mb = services.settings.http.max_input_file_mb
        file = await receive_body(request, folder, path, limit_mb=limit_mb)
        files = [SideFile(path, file.path, file.size)]
        try:
            return await _put(request, notebook_id, files, replace=not only_new, warnings=[])
        except InputFileExistsError:
            raise Problem(Code.PRECONDITION_FAILED, f"There is a file at {path!r}.") from None


@get(
    "/notebook/{notebook_id:str}/files",
    right=Right.READ,
    operation=Operation(
        id="listFiles",
        tag=TAG,
        summary="List the files beside a notebook",
        description="By path; as of now, or as an execution had them.",
        parameters=(OF_EXECUTION, PAGE, PAGE_SIZE, IF_NONE_MATCH),
        answers={
            200: Answer(
                description="The files.",
                schema=FileList,
                example=examples.FILE_LIST,
                headers=ETAG,
            ),
            304: NOT_MODIFIED,
        },
        problems=(
            Code.NOTEBOOK_NOT_FOUND,
            Code.EXECUTION_NOT_FOUND,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def list_files(request: Request[Any, Any, Any]) -> Reply:
    """A page of the notebook's files."""
    query = Query(request)
    page = query.integer("page", 1, low=1, high=1_000_000_000)
    size = query.integer("pageSize", 20, low=1, high=100)
    notebook = await _notebook(request, query)
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
    operation=Operation(
        id="downloadInputFile",
        tag=TAG,
        summary="Download a file that lies beside a notebook",
        description="As of now, or as an execution had it.",
        parameters=(OF_EXECUTION, *RANGE_PARAMETERS),
        answers=ANSWERS,
        problems=(
            Code.NOTEBOOK_NOT_FOUND,
            Code.EXECUTION_NOT_FOUND,
            Code.FILE_NOT_FOUND,
            Code.ARTIFACT_NOT_FOUND,
            Code.RANGE_NOT_SATISFIABLE,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def download(request: Request[Any, Any, Any]) -> Reply:
    """The file, or a part of it."""
    services, access = services_of(request), access_of(request)
    notebook = await _notebook(request, Query(request))
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
    operation=Operation(
        id="removeFile",
        tag=TAG,
        summary="Remove a file from beside a notebook",
        description="Runs that were asked for before still find it. A change raises the minor "
        "part of notebookVersion.",
        parameters=(IF_MATCH_EITHER,),
        answers={204: Answer(description="The file is removed.", headers=POSITION)},
        problems=(
            Code.NOTEBOOK_NOT_FOUND,
            Code.FILE_NOT_FOUND,
            Code.CONFLICT,
            Code.PRECONDITION_FAILED,
        ),
    ),
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
        precondition=Precondition(request.headers.get("if-match")),
    )
    view = await reading.notebook(services.pool, access, notebook_id)
    return empty_reply(204, {"Nbledger-Position": str(view.position)})


async def _put(
    request: Request[Any, Any, Any],
    notebook_id: UUID,
    files: list[SideFile],
    *,
    replace: bool,
    warnings: list[str],
) -> Reply:
    services, access = services_of(request), access_of(request)
    check_sizes(files, services.settings.http)
    new = await put_files(
        services.store,
        services.artifacts,
        access,
        notebook_id,
        files,
        replace=replace,
        precondition=Precondition(request.headers.get("if-match")),
        limits=file_limits(services.settings.http),
    )
    view = await reading.notebook(services.pool, access, notebook_id)
    return _changed(access, view, [file.path for file in files], warnings, new=bool(new))


def _changed(
    access: Access, view: NotebookView, paths: list[str], warnings: list[str], *, new: bool
) -> Reply:
    held = msgspec.json.decode(view.document, type=_Held)
    wanted = set(paths)
    told = [file for file in held.files if file.path in wanted]
    changed = FilesChanged(
        files=told,
        notebook_version=held.notebook_version,
        notebook_etag=reading.notebook_etag(view),
        warnings=warnings,
    )
    headers = {"Nbledger-Position": str(view.position)}
    if len(told) == 1:
        base = f"/api/{access.tenant_id}/{access.project_id}/notebook/{view.notebook_id}"
        headers["Location"] = f"{base}/file/{quote(told[0].path)}"
        headers["ETag"] = f'"{told[0].digest}"'
    return json_reply(msgspec.json.encode(changed), status=201 if new else 200, headers=headers)


def _asked(form: FileForm) -> tuple[list[SideFile], bool, list[str]]:
    """The files at the paths that were asked for, whether they replace others, and warnings."""
    faults: list[Fault] = []
    members = Members(dict(form.fields), "", faults)
    path: str | None = members.take("path", str)
    given: str | None = members.take("replace", str)
    replace = None if not given else boolean(given)
    if given and replace is None:
        members.fault("replace", "must be true or false")
    if path is not None and len(form.files) > 1:
        members.fault("path", "can be told of one file only; others go by their file names")
    warnings: list[str] = []
    members.warn_of_unknown(warnings)
    if faults:
        raise InvalidInputError(faults)
    if path is not None:
        file = form.files[0]
        return [SideFile(_checked(path, "/path"), file.path, file.size)], bool(replace), warnings
    files = [SideFile(_checked(each.name, "/file"), each.path, each.size) for each in form.files]
    return files, bool(replace), warnings


def _checked(text: str, pointer: str) -> str:
    try:
        return checked_path(text)
    except InvalidPathError as invalid:
        raise InvalidFilesError([Fault(pointer, str(invalid))]) from None


def _known(text: str) -> str:
    """The path in the form that it was kept in. Raises :class:`InputFileNotFoundError`."""
    try:
        return checked_path(text)
    except InvalidPathError:
        raise InputFileNotFoundError(text[:1000]) from None


def _path_of(request: Request[Any, Any, Any]) -> str:
    """The path as it was sent: what routes requests has put double and last slashes right."""
    raw: bytes = request.scope["raw_path"]
    _, _, path = raw.partition(b"/file/")
    return unquote_to_bytes(path).decode("utf-8", "surrogateescape")


async def _notebook(request: Request[Any, Any, Any], query: Query) -> Notebook:
    """The notebook as it is now, or as the execution had it that the query names."""
    services, access = services_of(request), access_of(request)
    execution_id = query.text("executionId")
    query.check()
    version = None
    if execution_id is not None:
        version = await _version_of(services, access, request, execution_id)
    loaded = await load_notebook(
        services.store, access, notebook_id_of(request), up_to_version=version
    )
    return loaded.aggregate


async def _version_of(
    services: Services, access: Access, request: Request[Any, Any, Any], execution_id: str
) -> int:
    results = await reading.results(
        services.pool, access, notebook_id_of(request), execution_id_in(execution_id)
    )
    return results.notebook_stream_version


HANDLERS: list[Any] = [add, put_one, list_files, download, remove]
