"""Which results are asked for."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from nbledger_domain.execution import Output, Representation
from nbledger_http.requests.queries import Paging
from nbledger_projections.read_models.executions.result_folding import Artifact
from nbledger_projections.read_models.executions.results import ResultsView
from nbledger_projections.read_models.media_types import OutputKind, is_chart, kind_of

OutputType = Literal["all", "data", "plots", "models", "reports"]
_WITH_OUTPUTS = ("all", "data", "plots")
_ARTIFACT_KINDS = {"data": "dataset", "models": "model", "reports": "report"}


class ResultsQuery(Paging, rename="camel", kw_only=True):
    """Which results are asked for, and in which form."""

    output_type: Annotated[
        OutputType,
        Meta(
            description="Only results of this kind: data are tables, JSON and enriched datasets; "
            "plots are pictures and charts. Combines with the other parameters."
        ),
    ] = "all"
    format: Annotated[
        Literal["summary", "detailed", "download"],
        Meta(
            description="detailed tells the content of text and JSON as well; download answers "
            "with a ZIP archive: the executed notebook, all results that are asked for, and a "
            "manifest with the SHA-256 of each."
        ),
    ] = "summary"
    cell_id: Annotated[
        str | None,
        Meta(description="Only results of this cell. Files of `outputs/` are of no cell."),
    ] = None
    page_size: Annotated[
        int,
        Meta(ge=1, le=1000, description="Outputs per page; files are told on every page."),
    ] = 50


class Place(NamedTuple):
    """An output and where it stands: its cell, and its number there, from 1."""

    cell_id: str
    number: int
    output: Output

    @property
    def kind(self) -> OutputKind:
        """What it shows."""
        return kind_of(self.output)


class Alternative(msgspec.Struct, frozen=True, rename="camel"):
    """A further file of a result, such as the same model in another format."""

    role: str
    file_name: str
    content_type: str
    digest: str
    size: int

    @property
    def content(self) -> Representation:
        """Its bytes."""
        return Representation(self.content_type, self.digest, self.size)


def outputs(view: ResultsView, output_type: OutputType, cell_id: str | None) -> Iterator[Place]:
    """The outputs of this type, of one cell or of all."""
    if output_type not in _WITH_OUTPUTS:
        return
    for cell in view.cells:
        if cell_id is not None and cell.cell_id != cell_id:
            continue
        for number, output in enumerate(cell.outputs, 1):
            if output_type == "all" or _is_of(kind_of(output), output_type):
                yield Place(cell.cell_id, number, output)


def artifacts(view: ResultsView, output_type: OutputType, cell_id: str | None) -> list[Artifact]:
    """The files of this type; with a cell those that say that they are of it."""
    kind = _ARTIFACT_KINDS.get(output_type)
    return [
        artifact
        for artifact in view.artifacts
        if (output_type == "all" or artifact.kind == kind)
        and (cell_id is None or artifact.attributes.get("cellId") == cell_id)
    ]


def metrics(view: ResultsView, cell_id: str | None) -> dict[str, float]:
    """The figures of the run, or as one cell told them."""
    return view.metrics if cell_id is None else view.cell_metrics.get(cell_id, {})


def alternatives(artifact: Artifact) -> Sequence[Alternative]:
    """The further files of a result; none where they cannot be read."""
    told = artifact.attributes.get("alternatives", [])
    try:
        return msgspec.convert(told, list[Alternative])
    except msgspec.ValidationError:
        return []


def in_order(kind: OutputKind, output: Output) -> list[Representation]:
    """The forms of an output, the one first that stands for it."""
    if kind is OutputKind.CHART:
        # Its description: the page that comes along is full of script, which is not run.
        return sorted(output.representations, key=lambda form: not is_chart(form.content_type))
    return output.representations


def _is_of(kind: OutputKind, output_type: str) -> bool:
    return kind.is_plot if output_type == "plots" else kind.is_data
