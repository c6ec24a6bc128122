"""Results as a client gets them, each with its link."""

from typing import Any, TypeVar

import msgspec

from nbledger_domain.execution import Representation
from nbledger_http.description.schemas import (
    Alternative,
    CellResult,
    DatasetResult,
    Dimensions,
    FileResult,
    FurtherFile,
    Lineage,
    ModelResult,
    OutputResult,
    ReportResult,
    ResultColumn,
)
from nbledger_http.replies.file_names import output_file_name, safe_file_name
from nbledger_http.representations.result_selection import Place, alternatives, in_order
from nbledger_http.security.links import Link, LinkSigner
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_projections.read_models.executions.result_folding import Artifact, CellOutputs
from nbledger_projections.read_models.executions.results import ResultsView

T = TypeVar("T")

NOTHING = Representation("text/plain", "0" * 64, 0)
"""Stands for an output that has no form at all."""


class Linker:
    """Makes the links of one answer: ``base`` is what clients reach the API by."""

    def __init__(self, links: LinkSigner, scope: Scope, view: ResultsView, base: str) -> None:
        self._base = base
        self._links = links
        self.scope = scope
        self.suffix = view.execution_id.hex[-8:]

    def url(self, form: Representation, file_name: str) -> str:
        """The address of these bytes, to be saved under this name."""
        return self._base + self._links.path(
            Link(self.scope, form.digest, file_name, form.content_type)
        )


def cell(told: CellOutputs) -> CellResult:
    """How a cell stands."""
    return CellResult(
        cell_id=told.cell_id,
        status=told.status,
        execution_count=told.execution_count,
        output_count=told.output_count,
        output_bytes=told.output_bytes,
        kept_bytes=told.kept_bytes,
        truncated=told.truncated,
        digest=told.outputs_digest,
    )


def output(place: Place, linker: Linker) -> OutputResult:
    """An output without its content."""
    told, kind = place.output, place.kind
    first, *others = in_order(kind, told) or [NOTHING]

    def url(form: Representation) -> str:
        name = output_file_name(place.cell_id, place.number, linker.suffix, form)
        return linker.url(form, name)

    result = OutputResult(
        cell_id=place.cell_id,
        output_type=first.content_type if _tells_itself(first) else told.output_type,
        content_type=first.content_type,
        kind=kind,
        title=told.title or f"Output {place.number} of {place.cell_id}",
        stream=told.stream,
        rows=told.rows,
        columns=told.columns,
        size=first.size,
        digest=first.digest,
        download_url=url(first),
        alternatives=[
            Alternative(
                content_type=form.content_type,
                size=form.size,
                digest=form.digest,
                download_url=url(form),
            )
            for form in others
        ],
    )
    if told.width is not None and told.height is not None:
        result.dimensions = Dimensions(told.width, told.height)
    return result


def _tells_itself(form: Representation) -> bool:
    """Whether the media type says more of an output than Jupyter's type of it does."""
    return form.content_type.startswith(("image/", "application/"))


def dataset(artifact: Artifact, linker: Linker, view: ResultsView) -> DatasetResult:
    """An enriched dataset."""
    told = artifact.attributes
    return DatasetResult(
        name=artifact.name,
        record_count=_of_type(told.get("recordCount"), int),
        new_columns=_texts(told.get("newColumns")),
        format=str(told.get("format", "csv")),
        columns=_converted(told.get("columns"), list[ResultColumn], []),
        dataset_id=_of_type(told.get("datasetId"), str),
        version=_of_type(told.get("datasetVersion"), int),
        lineage=Lineage(
            source_dataset_id=_of_type(told.get("sourceDatasetId"), str),
            source_version=_of_type(told.get("sourceVersion"), int),
            notebook_id=view.notebook_id,
            notebook_version=view.notebook_version,
            execution_id=view.execution_id,
        ),
        **_file_members(artifact, linker),
    )


def model(artifact: Artifact, linker: Linker) -> ModelResult:
    """A model: as it was told, since nobody looks into it."""
    told = artifact.attributes
    metrics = _converted(told.get("metrics"), dict[str, float | None], {})
    accuracy = _converted(told.get("accuracy"), float, None)
    return ModelResult(
        name=artifact.name,
        model_type=_of_type(told.get("modelType"), str),
        accuracy=metrics.get("accuracy") if accuracy is None else accuracy,
        features=_texts(told.get("features")),
        target=_of_type(told.get("target"), str),
        metrics=metrics,
        libraries=_converted(told.get("libraries"), dict[str, str], {}),
        **_file_members(artifact, linker),
    )


def report(artifact: Artifact, linker: Linker) -> ReportResult:
    """A report."""
    told = artifact.attributes
    return ReportResult(
        name=artifact.name,
        format=str(told.get("format", "html")),
        title=_of_type(told.get("title"), str) or artifact.name,
        **_file_members(artifact, linker),
    )


def file(artifact: Artifact, linker: Linker) -> FileResult:
    """Any other file."""
    return FileResult(
        name=artifact.name,
        path=_of_type(artifact.attributes.get("path"), str),
        **_file_members(artifact, linker),
    )


def _file_members(artifact: Artifact, linker: Linker) -> dict[str, Any]:
    content = artifact.content
    return {
        "content_type": content.content_type,
        "size": content.size,
        "digest": content.digest,
        "download_url": linker.url(content, safe_file_name(artifact.file_name)),
        "alternatives": [
            FurtherFile(
                role=each.role,
                file_name=each.file_name,
                content_type=each.content_type,
                size=each.size,
                digest=each.digest,
                download_url=linker.url(each.content, safe_file_name(each.file_name)),
            )
            for each in alternatives(artifact)
        ],
    }


def _of_type(value: Any, kind: type[T]) -> T | None:
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _converted(value: Any, kind: Any, default: Any) -> Any:
    """What an attribute holds, if it is what it should be."""
    try:
        return default if value is None else msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return default
