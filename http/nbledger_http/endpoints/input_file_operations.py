"""How the operations on input files describe themselves."""

from typing import Annotated

import msgspec
from msgspec import Meta

from nbledger_http.description import notebook_examples
from nbledger_http.description.documentation import (
    ETAG,
    FILE_PRECONDITIONS,
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_PROBLEMS,
    LOCATION,
    NOT_MODIFIED,
    POSITION,
    READ_BY_TAG,
    REPLAYED,
    Answer,
    Body,
    FilePart,
    Operation,
)
from nbledger_http.replies.problems import Code
from nbledger_http.representations.stored_files import ANSWERS, RANGE_HEADERS
from nbledger_http.requests.queries import Paging
from nbledger_projections.read_models.notebooks.documents import FileDocument

TAG = "Input files"

OfExecution = Annotated[
    str, Meta(description="As this execution had it.", extra_json_schema={"format": "uuid"})
]


class FilesForm(msgspec.Struct):
    """What may be said of files that are sent."""

    path: Annotated[
        str | None,
        Meta(
            description="The path below the notebook's folder, such as data/input.csv; only "
            "with one file.",
            extra_json_schema={"maxLength": 1000},
        ),
    ] = None
    replace: Annotated[
        bool,
        Meta(description="Whether other files at the same paths are replaced, not refused."),
    ] = False


class FileQuery(msgspec.Struct, rename="camel"):
    """As what a notebook's file is downloaded."""

    execution_id: OfExecution | None = None


class FileListQuery(Paging, rename="camel", kw_only=True):
    """Which of a notebook's files are listed."""

    execution_id: OfExecution | None = None


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


ADD = Operation(
    id="addFiles",
    tag=TAG,
    summary="Put files beside a notebook",
    description="Runs that are asked for from then on find them in their folder. The same "
    "content at the same path changes nothing; another one is refused unless `replace` is "
    "true. Of several files all are kept or none. A change raises the minor part of "
    "notebookVersion. `warnings` name paths that Windows cannot hold.",
    headers=(*FILE_PRECONDITIONS, IDEMPOTENCY_KEY),
    body=Body(
        schema=FilesForm,
        media_type="multipart/form-data",
        file=FilePart(
            media_type="application/octet-stream",
            description="The file. Its name is its path below the notebook's folder, unless "
            "`path` tells one. Several parts of this name are several files.",
        ),
    ),
    answers={
        201: Answer(
            description="The files; at least one path is new.",
            schema=FilesChanged,
            opens="files/0/path",
            example=notebook_examples.FILES_CHANGED,
            headers={**LOCATION, **_CHANGE_HEADERS, **REPLAYED},
        ),
        200: Answer(
            description="The files; all were there already, or have been replaced.",
            schema=FilesChanged,
            opens="files/0/path",
            example=notebook_examples.FILES_CHANGED,
            headers={**LOCATION, **_CHANGE_HEADERS, **REPLAYED},
        ),
    },
    problems=(*_CHANGE_PROBLEMS, Code.FILE_EXISTS, *IDEMPOTENCY_PROBLEMS),
)

PUT_ONE = Operation(
    id="putFile",
    tag=TAG,
    summary="Put one file beside a notebook, or replace it",
    description="The body is the file as it is. With `If-None-Match: *` nothing is replaced. "
    "`warnings` say where Windows cannot hold the path.",
    headers=FILE_PRECONDITIONS,
    body=Body(schema={"type": "string"}, media_type="application/octet-stream"),
    answers={
        201: Answer(
            description="The file, which is new.",
            schema=FilesChanged,
            example=notebook_examples.FILES_CHANGED,
            headers={**LOCATION, **_CHANGE_HEADERS},
        ),
        200: Answer(
            description="The file, which was there, or has taken another one's place.",
            schema=FilesChanged,
            example=notebook_examples.FILES_CHANGED,
            headers={**LOCATION, **_CHANGE_HEADERS},
        ),
    },
    problems=_CHANGE_PROBLEMS,
)

LIST = Operation(
    id="listFiles",
    tag=TAG,
    summary="List the files beside a notebook",
    description="By path; as of now, or as an execution had them.",
    query=FileListQuery,
    headers=READ_BY_TAG,
    answers={
        200: Answer(
            description="The files.",
            schema=FileList,
            example=notebook_examples.FILE_LIST,
            headers=ETAG,
        ),
        304: NOT_MODIFIED,
    },
    problems=(
        Code.NOTEBOOK_NOT_FOUND,
        Code.EXECUTION_NOT_FOUND,
        Code.PRECONDITION_FAILED,
        Code.VALIDATION_FAILED,
    ),
)

DOWNLOAD = Operation(
    id="downloadInputFile",
    tag=TAG,
    summary="Download a file that lies beside a notebook",
    description="As of now, or as an execution had it.",
    query=FileQuery,
    headers=RANGE_HEADERS,
    answers=ANSWERS,
    problems=(
        Code.NOTEBOOK_NOT_FOUND,
        Code.EXECUTION_NOT_FOUND,
        Code.PRECONDITION_FAILED,
        Code.FILE_NOT_FOUND,
        Code.ARTIFACT_NOT_FOUND,
        Code.RANGE_NOT_SATISFIABLE,
        Code.VALIDATION_FAILED,
    ),
)

REMOVE = Operation(
    id="removeFile",
    tag=TAG,
    summary="Remove a file from beside a notebook",
    description="Runs that were asked for before still find it. A change raises the minor "
    "part of notebookVersion.",
    headers=FILE_PRECONDITIONS,
    answers={204: Answer(description="The file is removed.", headers=POSITION)},
    problems=(
        Code.NOTEBOOK_NOT_FOUND,
        Code.FILE_NOT_FOUND,
        Code.CONFLICT,
        Code.PRECONDITION_FAILED,
    ),
)
