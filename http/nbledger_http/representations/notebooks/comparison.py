"""Two versions of a notebook side by side, as the API tells it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET

from nbledger_domain.comparing.notebooks import (
    CellComparison,
    ComparedCell,
    MemberChange,
    compare_cells,
    compare_members,
)
from nbledger_domain.comparing.operations import Operation
from nbledger_domain.named_datasets import named
from nbledger_domain.parameters.declarations import declared_in
from nbledger_domain.parameters.injection import PARAMETERS_TAG
from nbledger_domain.vocabulary.languages import LANGUAGES, Language
from nbledger_infrastructure.postgres.event_store.moments import Moment
from nbledger_projections.machinery import quantities
from nbledger_projections.read_models.humanize import timestamp
from nbledger_projections.read_models.notebooks.details import NotebookView
from nbledger_projections.read_models.notebooks.documents import CellDocument, NotebookDocument

_decode = quantities.decoder(NotebookDocument).decode
_encode = msgspec.json.Encoder().encode

_MEMBERS: Final = ("notebookName", "notebookDescription", "kernelType", "integration")
_ENVIRONMENT: Final = ("packages", "customLibraries")


class ComparedVersion(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One side: the notebook's version, after the event at this position, at this time."""

    notebook_version: str
    position: int
    time: str


class ChangeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many cells there are of each change."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0


class NotebookComparison(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The differences of the notebook `to` from that `from`.

    `notebook` tells of its name, description, settings and environment, `parameters` of what its
    parameters cell declares, `files` of its input files; each by the JSON pointer of what changed.
    `datasets` are those that it is bound to, or that defaults of its parameters name. `cells` are
    all cells in the order of `to`, those removed where they were. `diff` leads from the one list
    of cells to the other, as notebook files have them, in the format of nbdime.
    """

    notebook_id: UUID
    from_: ComparedVersion = msgspec.field(name="from")
    to: ComparedVersion
    identical: bool
    counts: ChangeCounts
    notebook: list[MemberChange]
    parameters: list[MemberChange]
    datasets: list[MemberChange]
    files: list[MemberChange]
    cells: list[CellComparison]
    diff: list[Operation]


class Side(msgspec.Struct, frozen=True):
    """A notebook as it was at a moment."""

    view: NotebookView
    moment: Moment


class Compared(msgspec.Struct, frozen=True):
    """The comparison, and the cells of both sides for whoever shows them."""

    comparison: NotebookComparison
    before: Sequence[ComparedCell]
    after: Sequence[ComparedCell]


def compare(before: Side, after: Side) -> Compared:
    """Compare both; this takes a while for large ones."""
    old, new = _decode(before.view.document), _decode(after.view.document)
    cells = [_cell(each) for each in old.cells], [_cell(each) for each in new.cells]
    compared = compare_cells(*cells)
    language = LANGUAGES.get(new.kernel_type)
    parameters = [_parameters(each, language) for each in cells]
    notebook = compare_members(_members(old), _members(new))
    declared = compare_members(*parameters)
    datasets = compare_members(
        _datasets(old.integration.dataset_binding, parameters[0]),
        _datasets(new.integration.dataset_binding, parameters[1]),
    )
    files = compare_members(_files(old), _files(new))
    counts: dict[str, int] = {}
    for cell in compared.cells:
        counts[cell.change] = counts.get(cell.change, 0) + 1
    comparison = NotebookComparison(
        notebook_id=after.view.notebook_id,
        from_=_version(old, before.moment),
        to=_version(new, after.moment),
        identical=not (notebook or declared or datasets or files or compared.diff),
        counts=ChangeCounts(**counts),
        notebook=notebook,
        parameters=declared,
        datasets=datasets,
        files=files,
        cells=compared.cells,
        diff=compared.diff,
    )
    return Compared(comparison, *cells)


def encode(compared: Compared) -> bytes:
    """The comparison as JSON."""
    return _encode(compared.comparison)


def _version(document: NotebookDocument, moment: Moment) -> ComparedVersion:
    return ComparedVersion(
        notebook_version=document.notebook_version,
        position=moment.position,
        time=timestamp(moment.at),
    )


def _cell(cell: CellDocument) -> ComparedCell:
    return ComparedCell(
        cell_id=cell.cell_id,
        cell_type=cell.cell_type,
        source=cell.content,
        metadata=cell.metadata,
        attachments=None if cell.attachments is UNSET else cell.attachments,
    )


def _members(document: NotebookDocument) -> dict[str, Any]:
    whole = msgspec.to_builtins(document)
    environment = {key: whole["environment"][key] for key in _ENVIRONMENT}
    return {**{key: whole[key] for key in _MEMBERS}, "environment": environment}


def _parameters(cells: Sequence[ComparedCell], language: Language | None) -> dict[str, Any]:
    """What the parameters cell declares, by name: type and default."""
    source = next((each.source for each in cells if PARAMETERS_TAG in _tags(each)), None)
    if source is None or language is None:
        return {}
    return {
        each.name: {
            "declaredType": each.declared_type,
            "default": None if each.default is UNSET else each.default,
            "defaultSource": each.default_source,
        }
        for each in declared_in(source, language)
    }


def _tags(cell: ComparedCell) -> list[Any]:
    tags = cell.metadata.get("tags")
    return tags if isinstance(tags, list) else []


def _datasets(binding: str | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The datasets that are named, by what names them."""
    defaults = {name: each["default"] for name, each in parameters.items()}
    known = named(None, defaults)
    found = {name: text for name, text in defaults.items() if isinstance(text, str)}
    told: dict[str, Any] = {} if binding is None else {"datasetBinding": binding}
    by_parameter = {name: text for name, text in found.items() if text in known}
    return {**told, "parameters": by_parameter} if by_parameter else told


def _files(document: NotebookDocument) -> dict[str, Any]:
    return {
        each.path: {
            "digest": each.digest,
            "size": each.size,
            "executable": each.executable is True,
        }
        for each in document.files
    }
