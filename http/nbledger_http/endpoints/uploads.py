"""Uploading notebook files."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from litestar import Request, post

from nbledger_application.caller import Right
from nbledger_application.commands.upload_notebook import upload_notebook
from nbledger_application.idempotency import RequestKey
from nbledger_domain.cells import Cell
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_http.description import notebook_examples
from nbledger_http.description.documentation import (
    ETAG,
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_PROBLEMS,
    LOCATION,
    POSITION,
    REPLAYED,
    Answer,
    Body,
    FilePart,
    Operation,
)
from nbledger_http.description.schemas import CellCounts, Parsing
from nbledger_http.endpoints.notebooks.changing import NewNotebook
from nbledger_http.endpoints.notebooks.reading import TAG
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply
from nbledger_http.representations.idempotency import New, file_digests, once
from nbledger_http.representations.notebooks.changes import asked_of, created_reply, told_of
from nbledger_http.requests import bodies as requests
from nbledger_http.requests.bindings import binding_warnings
from nbledger_http.requests.bodies import Creation
from nbledger_http.requests.bundles import ReceivedBundle, received_bundle
from nbledger_http.requests.json_bodies import unstorable
from nbledger_http.requests.schedules.advice import schedule_advice
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of
from nbledger_infrastructure.notebooks.files import ParsedNotebook, parse_ipynb
from nbledger_infrastructure.notebooks.kernelspecs import kernel_type_of

OPERATION = "uploadNotebook"


@post(
    "/notebook/upload",
    right=Right.WRITE,
    operation=Operation(
        id=OPERATION,
        tag=TAG,
        summary="Upload an existing notebook",
        description="The file is brought to nbformat 4.5. Everything that nbformat knows of a "
        "cell is kept, and so are its outputs and its id. What is odd is put right where Jupyter "
        "would open the file, and `warnings` says how; refused is a file without cells, and a "
        "cell of an unknown type or without code. A notebook comes with the files beside it in a "
        "ZIP archive (.zip) with one .ipynb, or as several parts `file`: their paths are taken "
        "from the notebook's folder. What systems and tools put into folders is left out, and so "
        "are empty folders and what lies in outputs/: `warnings` name it. Files that the archive "
        "marks as executable are programs for runs, too.",
        headers=(IDEMPOTENCY_KEY,),
        body=Body(
            schema=requests.UploadForm,
            media_type="multipart/form-data",
            file=FilePart(
                media_type="application/x-ipynb+json",
                description="The notebook file, of nbformat 1 to 4; or a ZIP archive of it and the "
                "files beside it. Of several parts of this name one is the notebook, and the "
                "others are files beside it, each under the path that its file name tells.",
            ),
        ),
        answers={
            201: Answer(
                description="The notebook, and what reading the file found.",
                schema=NewNotebook,
                opens="notebookId",
                example=notebook_examples.UPLOADED_NOTEBOOK,
                headers={**LOCATION, **ETAG, **POSITION, **REPLAYED},
            )
        },
        problems=(
            Code.PROJECT_NOT_FOUND,
            Code.BODY_TOO_LARGE,
            Code.FILES_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.INVALID_ARCHIVE,
            Code.INVALID_FILES,
            Code.VALIDATION_FAILED,
            *IDEMPOTENCY_PROBLEMS,
        ),
    ),
)
async def upload(request: Request[Any, Any, Any]) -> Reply:
    """A new notebook, made of the file, with the files that came with it."""
    async with received_bundle(request) as bundle:
        return await _upload(request, bundle)


async def _upload(request: Request[Any, Any, Any], bundle: ReceivedBundle) -> Reply:
    services, access = services_of(request), access_of(request)
    kernel_types = services.settings.worker.kernels
    fields, file_name, content = bundle.fields, bundle.file_name, bundle.content
    creation, kernel_given = requests.upload(
        fields,
        file_name=file_name,
        kernel_types=kernel_types,
        limits=services.settings.execution,
    )
    digests = await file_digests(request, [file.location for file in bundle.files])

    def asked() -> Any:
        return {
            **asked_of(creation),
            "kernelGiven": kernel_given,
            "fileName": file_name,
            "content": hashlib.sha256(content).hexdigest(),
            "files": [
                [file.path, file.executable, digest]
                for file, digest in zip(bundle.files, digests, strict=True)
            ],
        }

    async def make(key: RequestKey | None) -> New:
        parsed = await asyncio.to_thread(_parse, content)
        warnings = [
            *bundle.warnings,
            *creation.warnings,
            *parsed.warnings,
            *await binding_warnings(services.pool, access, creation.integration.dataset_binding),
        ]
        new, about_kernel = _with_kernel_type(creation, parsed, kernel_types, given=kernel_given)
        about_schedule = schedule_advice(
            new.integration.schedule_execution,
            parsed.cells,
            new.kernel_type,
            pointer="/scheduleExecution",
        )
        told = await told_of(
            services.pool,
            new.kernel_type,
            [*warnings, *about_kernel, *about_schedule],
            parsing=Parsing(
                nbformat=parsed.nbformat, cells=_counts(parsed.cells), upgrades=parsed.upgrades
            ),
        )
        notebook_id, _ = await upload_notebook(
            services.store,
            services.artifacts,
            access,
            new,
            file_name=file_name,
            content=content,
            parsed=parsed,
            side_files=bundle.files,
            key=None if key is None else key.answering(told),
        )
        return New(notebook_id, told)

    return await once(request, OPERATION, asked, make, partial(created_reply, request))


def _with_kernel_type(
    creation: Creation, parsed: ParsedNotebook, kernels: Mapping[str, str], *, given: bool
) -> tuple[Creation, list[str]]:
    """The creation with the kernel type that was asked for, or else the file's; and warnings."""
    named = kernel_type_of(parsed.metadata, kernels)
    if named == creation.kernel_type:
        return creation, []
    if given:
        if named is None:
            return creation, []
        return creation, [f"the file is for {named}; the notebook runs on {creation.kernel_type}"]
    if named is None:
        return creation, [f"the file names no kernel; the notebook runs on {creation.kernel_type}"]
    return msgspec.structs.replace(creation, kernel_type=named), []


def _parse(content: bytes) -> ParsedNotebook:
    """Read the file; faults are told under ``/file``. Raises :class:`InvalidInputError`."""
    try:
        parsed = parse_ipynb(content)
    except InvalidInputError as error:
        faults = [Fault(f"/file{fault.pointer}", fault.reason) for fault in error.faults]
        raise InvalidInputError(faults) from None
    # Outputs are kept as bytes and may hold anything; cells become events.
    kept = {
        "cells": [
            {
                "source": cell.source,
                "metadata": cell.metadata,
                "attachments": cell.attachments,
            }
            for cell in parsed.cells
        ],
        "metadata": parsed.metadata,
    }
    faults = list(unstorable(kept, "/file"))
    if faults:
        raise InvalidInputError(faults[:100])
    return parsed


def _counts(cells: list[Cell]) -> CellCounts:
    found = Counter(cell.cell_type for cell in cells)
    return CellCounts(found["code"], found["markdown"], found["raw"], len(cells))


HANDLERS: list[Any] = [upload]
