"""Results of executions: outputs by cell and kind, and the files that a run left."""

import asyncio
import itertools
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, get

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.loading import load_notebook
from nbledger_domain.vocabulary.cell_ids import CELL_ID
from nbledger_domain.vocabulary.media_types import is_json
from nbledger_http.description import execution_examples
from nbledger_http.description.documentation import (
    ETAG,
    NOT_MODIFIED,
    READ_BY_TAG,
    Answer,
    Operation,
)
from nbledger_http.description.schemas import ExecutionResults, OutputResult
from nbledger_http.replies.file_names import content_disposition, safe_file_name
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.replies.responses import Reply, empty_reply, header_list
from nbledger_http.representations import resources, result_archive, result_bodies, result_selection
from nbledger_http.representations.conditional import document_reply, none_match, require_match
from nbledger_http.representations.notebooks.files import notebook_file
from nbledger_http.representations.result_bodies import Linker
from nbledger_http.representations.result_selection import Place, ResultsQuery
from nbledger_http.representations.streaming import LiveReply
from nbledger_http.requests import queries
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, execution_id_of, notebook_id_of
from nbledger_http.security.links import base_url
from nbledger_infrastructure.artifacts.store import ArtifactMissingError, ArtifactStore, Scope
from nbledger_projections.read_models.executions.result_folding import Artifact
from nbledger_projections.read_models.executions.results import ResultsView

TAG = "Results"
MAX_INLINE_BYTES = 1024 * 1024
"""Larger outputs are not told inline, only where to get them."""

MAX_INLINE_BYTES_OF_ALL = 16 * 1024 * 1024
"""As those are that come after so much in one answer."""

_READERS = 8
"""How many outputs are read from the store at once, for one answer."""

_TEXT = re.compile(r"text/|application/(javascript|xml)$")


@get(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}/results",
    right=Right.READ,
    operation=Operation(
        id="getExecutionResults",
        tag=TAG,
        summary="Get execution results",
        description="What the execution has put out; of one that still runs, what there is so "
        "far. Every output and file has a link that works without a token until it expires.",
        query=ResultsQuery,
        headers=READ_BY_TAG,
        answers={
            200: Answer(
                description="The results.",
                schema=ExecutionResults,
                media_types=("application/json", "application/zip"),
                example=execution_examples.RESULTS,
                headers=ETAG,
            ),
            304: NOT_MODIFIED,
        },
        problems=(
            Code.EXECUTION_NOT_FOUND,
            Code.CELL_NOT_FOUND,
            Code.VALIDATION_FAILED,
            Code.PRECONDITION_FAILED,
        ),
    ),
)
async def get_results(request: Request[Any, Any, Any]) -> Reply:
    """The results, or an archive of them."""
    services, access = services_of(request), access_of(request)
    notebook_id, execution_id = notebook_id_of(request), execution_id_of(request)
    query = queries.checked(request, ResultsQuery)
    cell_id, form = query.cell_id, query.format
    page, page_size = query.page, query.page_size
    view = await resources.results(
        services.pool, access, notebook_id, execution_id, recent=services.recent_results
    )
    if cell_id is not None and not any(cell.cell_id == cell_id for cell in view.cells):
        await _require_cell(services, access, view, cell_id)
    outputs = list(result_selection.outputs(view, query.output_type, cell_id))
    artifacts = result_selection.artifacts(view, query.output_type, cell_id)
    if form == "download":
        metrics = result_selection.metrics(view, cell_id)
        return await _archive(request, access, view, outputs, artifacts, metrics=metrics)
    base = base_url(request, services.settings.http.public_url)
    linker = Linker(services.links, access.scope(notebook_id), view, base)
    shown = [
        result_bodies.output(place, linker)
        for place in itertools.islice(outputs, (page - 1) * page_size, page * page_size)
    ]
    if form == "detailed":
        await _add_contents(services.artifacts, linker.scope, shown)
    of_kind = {
        kind: [artifact for artifact in artifacts if artifact.kind == kind]
        for kind in ("dataset", "model", "report", "file")
    }
    results = ExecutionResults(
        execution_id=execution_id,
        notebook_id=notebook_id,
        notebook_version=view.notebook_version,
        status=view.status,
        cells=[
            result_bodies.cell(cell)
            for cell in view.cells
            if cell_id is None or cell.cell_id == cell_id
        ],
        outputs=shown,
        total_count=len(outputs),
        page=page,
        page_size=page_size,
        has_next_page=page * page_size < len(outputs),
        enriched_datasets=[result_bodies.dataset(a, linker, view) for a in of_kind["dataset"]],
        models=[result_bodies.model(a, linker) for a in of_kind["model"]],
        reports=[result_bodies.report(a, linker) for a in of_kind["report"]],
        files=[result_bodies.file(a, linker) for a in of_kind["file"]],
        metrics=result_selection.metrics(view, cell_id),
        run_warnings=view.run_warnings,
    )
    return document_reply(
        request,
        msgspec.json.encode(results),
        # The links in it grow old: an answer may be kept for as long as they work.
        etag=f'"v{view.version}.{form[0]}{services.links.generation()}"',
        modified_at=view.modified_at,
        by_time=False,
    )


async def _require_cell(
    services: Services, access: Caller, view: ResultsView, cell_id: str
) -> None:
    """Raise :class:`Problem` (404) unless the execution covers the cell: it may put out nothing."""
    status = await resources.execution(services.pool, access, view.notebook_id, view.execution_id)
    document = msgspec.json.decode(status.document)
    known = {cell["cellId"] for cell in document["cellResults"]}
    if CELL_ID.match(cell_id) is None or cell_id not in known:
        raise Problem(Code.CELL_NOT_FOUND, "The execution covers no cell of this id.")


async def _add_contents(store: ArtifactStore, scope: Scope, shown: Sequence[OutputResult]) -> None:
    """Tell the content of text and JSON, as far as an answer may grow."""
    left = MAX_INLINE_BYTES_OF_ALL
    told: list[OutputResult] = []
    for result in shown:
        if not _TEXT.match(result.content_type) and not is_json(result.content_type):
            continue
        if result.size > min(MAX_INLINE_BYTES, left):
            result.content_omitted = True
            continue
        left -= result.size
        told.append(result)
    waiting = iter(told)

    async def read() -> None:
        for result in waiting:
            result.content = await _content(store, scope, result)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_READERS, len(told))):
            group.create_task(read())


async def _content(store: ArtifactStore, scope: Scope, result: OutputResult) -> Any:
    """Text or JSON; unset for what is not kept any more."""
    try:
        content = await store.get(scope, result.digest)
    except ArtifactMissingError:
        return msgspec.UNSET
    if is_json(result.content_type):
        try:
            # Only to be sure: Raw would put anything into the answer.
            msgspec.json.decode(content)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return content.decode("utf-8", "replace")
        return msgspec.Raw(content)
    return content.decode("utf-8", "replace")


async def _archive(
    request: Request[Any, Any, Any],
    access: Caller,
    view: ResultsView,
    outputs: Sequence[Place],
    artifacts: Sequence[Artifact],
    *,
    metrics: dict[str, float],
) -> Reply:
    """A ZIP archive of the executed notebook and the selected results; 304 where it is known."""
    services = services_of(request)
    tags = {"ETag": f'"v{view.version}.z"', "Cache-Control": "private, no-cache"}
    require_match(request, tags["ETag"])
    if none_match(request, tags["ETag"]):
        return empty_reply(304, tags)
    notebook = (
        await load_notebook(
            services.store,
            access,
            view.notebook_id,
            up_to_version=view.notebook_stream_version,
        )
    ).aggregate
    name = f"{safe_file_name(notebook.name, default='notebook')}-{view.execution_id.hex[-8:]}"
    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": content_disposition(f"{name}.zip"),
        "X-Content-Type-Options": "nosniff",
        **tags,
    }
    pieces = result_archive.stream(
        services.artifacts,
        access.scope(view.notebook_id),
        view,
        result_archive.listed(view, outputs, artifacts),
        metrics=metrics,
        inputs=[notebook.files[path] for path in sorted(notebook.files)],
        notebook=lambda: notebook_file(services, access, notebook, view),
        notebook_name=f"{name}.ipynb",
    )
    return LiveReply(200, header_list(headers), pieces)


HANDLERS: list[Any] = [get_results]
