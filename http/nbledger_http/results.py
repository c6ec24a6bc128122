"""Results of executions: outputs by cell and kind, and the files that a run left."""

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request, get

from nbledger_domain.cells import CELL_ID
from nbledger_domain.execution import Output, Representation
from nbledger_http import archives, examples, reading
from nbledger_http.access import Access, Right, access_of, execution_id_of, notebook_id_of
from nbledger_http.commands.load_notebook import load_notebook
from nbledger_http.conditional import document_reply
from nbledger_http.documentation import (
    ETAG,
    IF_NONE_MATCH,
    NOT_MODIFIED,
    Answer,
    Operation,
    Parameter,
)
from nbledger_http.file_names import output_file_name, safe_file_name
from nbledger_http.links import Link, base_url
from nbledger_http.notebook_files import notebook_file
from nbledger_http.notebook_outputs import JSON
from nbledger_http.problems import Code, Problem
from nbledger_http.queries import Query
from nbledger_http.replies import Reply, StreamReply, header_list
from nbledger_http.schemas import (
    Alternative,
    CellResult,
    DatasetResult,
    Dimensions,
    ExecutionResults,
    FileResult,
    ModelResult,
    OutputResult,
    ReportResult,
)
from nbledger_http.services import Services, services_of
from nbledger_infrastructure.artifacts import ArtifactMissingError
from nbledger_projections.execution_results import Artifact, CellOutputs, ResultsView
from nbledger_projections.media_types import is_plot

TAG = "Results"
OUTPUT_TYPES = ("all", "data", "plots", "models", "reports")
FORMATS = ("summary", "detailed", "download")
MAX_INLINE_BYTES = 1024 * 1024
"""Larger outputs are not told inline, only where to get them."""

_TEXT = re.compile(r"text/|image/svg\+xml$|application/(javascript|xml)$")


@get(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}/results",
    right=Right.READ,
    operation=Operation(
        id="getExecutionResults",
        tag=TAG,
        summary="Get execution results",
        description="What the execution has put out; of one that still runs, what there is so "
        "far. Every output and file has a link that works without a token until it expires.",
        parameters=(
            Parameter(
                name="outputType",
                description="Only results of this kind: data are tables, JSON and enriched "
                "datasets; plots are pictures and charts.",
                schema={"type": "string", "enum": list(OUTPUT_TYPES), "default": "all"},
            ),
            Parameter(
                name="format",
                description="detailed tells the content of text and JSON as well; download "
                "answers with a ZIP archive of the executed notebook and all results.",
                schema={"type": "string", "enum": list(FORMATS), "default": "summary"},
            ),
            Parameter(
                name="cellId",
                description="Only results of this cell.",
                schema={"type": "string"},
            ),
            IF_NONE_MATCH,
        ),
        answers={
            200: Answer(
                description="The results.",
                schema=ExecutionResults,
                media_types=("application/json", "application/zip"),
                example=examples.RESULTS,
                headers=ETAG,
            ),
            304: NOT_MODIFIED,
        },
        problems=(Code.EXECUTION_NOT_FOUND, Code.CELL_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def get_results(request: Request[Any, Any, Any]) -> Reply:
    """The results, or an archive of them."""
    services, access = services_of(request), access_of(request)
    notebook_id, execution_id = notebook_id_of(request), execution_id_of(request)
    query = Query(request)
    kind = query.choice("outputType", OUTPUT_TYPES) or "all"
    form = query.choice("format", FORMATS) or "summary"
    cell_id = query.text("cellId")
    query.check()
    view = await reading.results(services.pool, access, notebook_id, execution_id)
    cells, artifacts = _select(view, kind, cell_id)
    if cell_id is not None and not any(cell.cell_id == cell_id for cell in view.cells):
        await _require_cell(services, access, view, cell_id)
    if form == "download":
        return await _archive(services, access, view, cells, artifacts)
    linker = _Linker(request, services, access, view)
    detailed = form == "detailed"
    results = ExecutionResults(
        execution_id=execution_id,
        notebook_id=notebook_id,
        status=view.status,
        cells=[_cell(cell) for cell in view.cells if cell_id is None or cell.cell_id == cell_id],
        outputs=[
            await _output(services, linker, cell.cell_id, index, output, detailed=detailed)
            for cell, outputs in cells
            for index, output in outputs
        ],
        enriched_datasets=[_dataset(a, linker) for a in artifacts if a.kind == "dataset"],
        models=[_model(a, linker) for a in artifacts if a.kind == "model"],
        reports=[_report(a, linker) for a in artifacts if a.kind == "report"],
        files=[_file(a, linker) for a in artifacts if a.kind == "file"],
    )
    return document_reply(
        request,
        msgspec.json.encode(results),
        # The links in it grow old: an answer may be kept for as long as they work.
        etag=f'"v{view.version}.{form[0]}{linker.generation}"',
        modified_at=view.modified_at,
        by_time=False,
    )


_Selected = list[tuple[CellOutputs, list[tuple[int, Output]]]]


def _select(view: ResultsView, kind: str, cell_id: str | None) -> tuple[_Selected, list[Artifact]]:
    """Outputs, each with its place (from 1) among those of its cell, and files, as asked for."""
    cells: _Selected = []
    if kind in ("all", "data", "plots"):
        for cell in view.cells:
            if cell_id is None or cell.cell_id == cell_id:
                numbered = enumerate(cell.outputs, 1)
                cells.append((cell, [(i, o) for i, o in numbered if _is_of(o, kind)]))
    artifacts: list[Artifact] = []
    # Files belong to the run as a whole, not to a cell.
    if cell_id is None:
        wanted = {"data": "dataset", "models": "model", "reports": "report"}
        artifacts = [a for a in view.artifacts if kind == "all" or a.kind == wanted.get(kind)]
    return cells, artifacts


def _is_of(output: Output, kind: str) -> bool:
    types = [form.content_type for form in output.representations]
    if kind == "plots":
        return any(is_plot(media_type) for media_type in types)
    if kind == "data":
        if output.output_type in ("stream", "error") or any(is_plot(t) for t in types):
            return False
        table = output.metadata.get("dataFrame") is True
        return table or any(t == "text/csv" or JSON.fullmatch(t) for t in types)
    return True


async def _require_cell(
    services: Services, access: Access, view: ResultsView, cell_id: str
) -> None:
    """Raise :class:`Problem` (404) unless the execution covers the cell: it may put out nothing."""
    status = await reading.execution(services.pool, access, view.notebook_id, view.execution_id)
    document = msgspec.json.decode(status.document)
    known = {cell["cellId"] for cell in document["cellResults"]}
    if CELL_ID.match(cell_id) is None or cell_id not in known:
        raise Problem(Code.CELL_NOT_FOUND, "The execution covers no cell of this id.")


class _Linker:
    """Makes the download links of one answer."""

    def __init__(
        self,
        request: Request[Any, Any, Any],
        services: Services,
        access: Access,
        view: ResultsView,
    ) -> None:
        self._base = base_url(request, services.settings.http.public_url)
        self._links = services.links
        self.scope = access.scope(view.notebook_id)
        self.suffix = view.execution_id.hex[-8:]
        self.generation = services.links.generation()

    def url(self, form: Representation, file_name: str) -> str:
        link = Link(self.scope, form.digest, file_name, form.content_type)
        return self._base + self._links.path(link)


def _cell(cell: CellOutputs) -> CellResult:
    return CellResult(
        cell_id=cell.cell_id,
        status=cell.status,
        execution_count=cell.execution_count,
        output_count=cell.output_count,
        output_bytes=cell.output_bytes,
        kept_bytes=cell.kept_bytes,
        truncated=cell.truncated,
        digest=cell.outputs_digest,
    )


async def _output(
    services: Services,
    linker: _Linker,
    cell_id: str,
    index: int,
    output: Output,
    *,
    detailed: bool,
) -> OutputResult:
    first, *others = output.representations or [_NOTHING]
    told = first.content_type.startswith("image/") or first.content_type == "application/json"
    result = OutputResult(
        cell_id=cell_id,
        output_type=first.content_type if told else output.output_type,
        content_type=first.content_type,
        title=output.title or f"Output {index} of {cell_id}",
        stream=output.stream,
        size=first.size,
        digest=first.digest,
        download_url=linker.url(first, output_file_name(cell_id, index, linker.suffix, first)),
        alternatives=[
            Alternative(
                content_type=form.content_type,
                size=form.size,
                digest=form.digest,
                download_url=linker.url(
                    form, output_file_name(cell_id, index, linker.suffix, form)
                ),
            )
            for form in others
        ],
    )
    if output.width is not None and output.height is not None:
        result.dimensions = Dimensions(output.width, output.height)
    if detailed and first.size <= MAX_INLINE_BYTES:
        result.content = await _content(services, linker, first)
    return result


_NOTHING = Representation("text/plain", "0" * 64, 0)


async def _content(services: Services, linker: _Linker, form: Representation) -> Any:
    """Text or JSON; unset for what is neither, and for what is not kept any more."""
    is_json = JSON.fullmatch(form.content_type) is not None
    if not is_json and not _TEXT.match(form.content_type):
        return msgspec.UNSET
    if form.content_type.startswith("image/"):
        return msgspec.UNSET
    try:
        content = await services.artifacts.get(linker.scope, form.digest)
    except ArtifactMissingError:
        return msgspec.UNSET
    if is_json:
        try:
            # Only to be sure: Raw would put anything into the answer.
            msgspec.json.decode(content)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return content.decode("utf-8", "replace")
        return msgspec.Raw(content)
    return content.decode("utf-8", "replace")


def _dataset(artifact: Artifact, linker: _Linker) -> DatasetResult:
    attributes = artifact.attributes
    count = attributes.get("recordCount")
    return DatasetResult(
        name=artifact.name,
        record_count=count if isinstance(count, int) else None,
        new_columns=_texts(attributes.get("newColumns")),
        format=str(attributes.get("format", "csv")),
        content_type=artifact.content.content_type,
        size=artifact.content.size,
        download_url=_url(artifact, linker),
    )


def _model(artifact: Artifact, linker: _Linker) -> ModelResult:
    attributes = artifact.attributes
    accuracy = attributes.get("accuracy")
    model_type = attributes.get("modelType")
    return ModelResult(
        name=artifact.name,
        model_type=model_type if isinstance(model_type, str) else None,
        accuracy=float(accuracy) if isinstance(accuracy, int | float) else None,
        features=_texts(attributes.get("features")),
        content_type=artifact.content.content_type,
        size=artifact.content.size,
        download_url=_url(artifact, linker),
    )


def _report(artifact: Artifact, linker: _Linker) -> ReportResult:
    return ReportResult(
        name=artifact.name,
        format=str(artifact.attributes.get("format", "html")),
        content_type=artifact.content.content_type,
        size=artifact.content.size,
        download_url=_url(artifact, linker),
    )


def _file(artifact: Artifact, linker: _Linker) -> FileResult:
    return FileResult(
        name=artifact.name,
        content_type=artifact.content.content_type,
        size=artifact.content.size,
        download_url=_url(artifact, linker),
    )


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _url(artifact: Artifact, linker: _Linker) -> str:
    return linker.url(artifact.content, safe_file_name(artifact.file_name))


async def _archive(
    services: Services,
    access: Access,
    view: ResultsView,
    cells: _Selected,
    artifacts: list[Artifact],
) -> Reply:
    """A ZIP archive of the executed notebook and the selected results."""
    notebook = (
        await load_notebook(
            services.store,
            access,
            view.notebook_id,
            up_to_version=view.notebook_stream_version,
        )
    ).aggregate
    scope = access.scope(view.notebook_id)
    suffix = view.execution_id.hex[-8:]
    entries: list[tuple[str, Representation]] = [
        (f"outputs/{output_file_name(cell.cell_id, index, suffix, form)}", form)
        for cell, outputs in cells
        for index, output in outputs
        for form in output.representations
    ]
    entries += [(f"files/{safe_file_name(a.file_name)}", a.content) for a in artifacts]
    file_name = f"{safe_file_name(notebook.name, default='notebook')}-{suffix}"
    executed = await notebook_file(services, access, notebook, view)

    async def contents() -> AsyncIterator[archives.Entry]:
        yield archives.Entry(f"{file_name}.ipynb", _once(executed))
        for name, form in entries:
            try:
                pieces = await services.artifacts.stream(scope, form.digest)
            except ArtifactMissingError:
                continue
            yield archives.Entry(name, pieces)

    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": f'attachment; filename="{file_name}.zip"',
        "X-Content-Type-Options": "nosniff",
        "ETag": f'"v{view.version}.z"',
    }
    return StreamReply(
        200, header_list(headers), archives.zip_stream(contents(), at=view.modified_at)
    )


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


HANDLERS: list[Any] = [get_results]
