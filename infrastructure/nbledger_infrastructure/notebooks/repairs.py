"""Cells of nbformat 4 made whole: what Jupyter opens is accepted, with a warning for each repair.

Refused is only what nobody could run or show: a cell that is none, of an unknown type, or without
code. Messages name the cell and the member, and never quote what is in them.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from nbledger_domain.cells import Cell, CellType
from nbledger_infrastructure.notebooks.metadata import mend_cell_metadata
from nbledger_infrastructure.notebooks.notes import Notes, listed, shown
from nbledger_infrastructure.notebooks.values import MAX_OUTPUT_DEPTH, Cleaning

_TYPES: tuple[CellType, ...] = ("code", "markdown", "raw")
_MEMBERS = frozenset(["cell_type", "id", "metadata", "source"])
_TEXT_MEMBERS = _MEMBERS | {"attachments"}
_CODE_MEMBERS = _MEMBERS | {"outputs", "execution_count"}
_MAX_COUNT = 2**31
_OLD_OUTPUT_TYPES = {"pyout": "execute_result", "pyerr": "error"}
_OUTPUT_MEMBERS = {
    "stream": ("name", "text"),
    "display_data": ("data", "metadata"),
    "execute_result": ("data", "metadata", "execution_count"),
    "error": ("ename", "evalue", "traceback"),
}


class MadeWhole(msgspec.Struct, frozen=True):
    """A cell, and its outputs in nbformat's form."""

    cell: Cell
    outputs: list[dict[str, Any]]


def make_whole(found: Any, index: int, notes: Notes, *, newer: bool = False) -> MadeWhole | None:
    """The cell at ``index``, which has an id; ``None``, and a fault in ``notes``, for none.

    A file of a ``newer`` minor version may have types of cells that are not known yet.
    """
    pointer = f"/cells/{index}"
    if not isinstance(found, dict):
        notes.refuse(pointer, f"cell {index + 1} is no JSON object")
        return None
    label = f"cell {index + 1} ({found['id']})"
    kind = _kind(found, index, label, notes, newer=newer)
    source = None if kind is None else _source(found, kind, index, label, notes)
    if kind is None or source is None:
        return None
    _warn_of_unknown(found, _CODE_MEMBERS if kind == "code" else _TEXT_MEMBERS, label, notes)
    cleaning = Cleaning()
    made = Cell(
        cell_id=found["id"],
        cell_type=kind,
        source=cleaning.clean(source),
        metadata=_metadata(found, kind, cleaning, label, notes),
        attachments=cleaning.clean(_attachments(found, kind, label, notes)),
        execution_count=_count(found, label, notes) if kind == "code" else None,
    )
    cleaning.report(label, notes)
    return MadeWhole(made, _outputs(found, label, notes) if kind == "code" else [])


def joined(value: Any) -> Any:
    """A text that was split into lines as one; anything else as it is."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return value


def _kind(
    found: dict[str, Any], index: int, label: str, notes: Notes, *, newer: bool
) -> CellType | None:
    kind = found.get("cell_type")
    for known in _TYPES:
        if kind == known:
            return known
    if kind in ("heading", "html"):
        notes.warn(f"{label} is of the type {shown(kind)} of nbformat 3, and became markdown")
        found["source"] = _heading(found) if kind == "heading" else found.get("source")
        return "markdown"
    types = ", ".join(_TYPES)
    if newer and isinstance(kind, str):
        told = f"{label} is of the type {shown(kind)}, which is none of {types}"
        notes.warn(f"{told}; it became raw and is not run")
        return "raw"
    reason = f"is of the type {shown(kind)}, which is none of {types}"
    if kind is None:
        reason = f"has no cell_type; there are {types}"
    notes.refuse(f"/cells/{index}/cell_type", f"cell {index + 1} {reason}")
    return None


def _heading(found: dict[str, Any]) -> Any:
    level, source = found.pop("level", 1), joined(found.get("source"))
    marks = "#" * min(max(level, 1), 6) if isinstance(level, int) else "#"
    return f"{marks} {' '.join(source.splitlines())}" if isinstance(source, str) else source


def _source(found: dict[str, Any], kind: str, index: int, label: str, notes: Notes) -> str | None:
    source = joined(found.get("source"))
    if source is None and kind != "code":
        notes.warn(f"{label} has no source, and is empty")
        return ""
    if not isinstance(source, str):
        told = "has no source" if source is None else "has a source that is no text"
        notes.refuse(f"/cells/{index}/source", f"cell {index + 1} {told}")
        return None
    return source


def _metadata(
    found: dict[str, Any], kind: CellType, cleaning: Cleaning, label: str, notes: Notes
) -> dict[str, Any]:
    metadata = found.get("metadata")
    if not isinstance(metadata, dict):
        told = "is no JSON object, and was left out" if "metadata" in found else "was added"
        notes.warn(f"{label}: metadata {told}")
        return {}
    if "tags" in metadata:
        metadata = {**metadata, "tags": _tags(metadata["tags"], label, notes)}
    return mend_cell_metadata(cleaning.clean(metadata), kind, label, notes)


def _tags(tags: Any, label: str, notes: Notes) -> list[str]:
    if isinstance(tags, str):
        notes.warn(f"{label}: metadata.tags is a text, and became a list of it")
        return [tags]
    if not isinstance(tags, list):
        notes.warn(f"{label}: metadata.tags is no list, and was left out")
        return []
    found = [tag for tag in tags if isinstance(tag, str) and tag]
    if len(found) < len(tags):
        notes.warn(f"{label}: metadata.tags has items that are no text, which were left out")
    if any("," in tag for tag in found):
        notes.warn(f"{label}: metadata.tags has a tag with a comma, which nbformat does not allow")
    counts = Counter(found)
    once = list(counts)
    if len(once) < len(found):
        repeated = [tag for tag, count in counts.items() if count > 1]
        notes.warn(f"{label}: metadata.tags has {listed(repeated)} more than once; one is kept")
    return once


def _attachments(
    found: dict[str, Any], kind: str, label: str, notes: Notes
) -> dict[str, Any] | None:
    attachments = found.get("attachments")
    if attachments is None or kind == "code":  # told as an unknown member
        return None
    if not isinstance(attachments, dict):
        notes.warn(f"{label}: attachments is no JSON object, and was left out")
        return None
    kept: dict[str, Any] = {}
    for name, bundle in attachments.items():
        if isinstance(bundle, dict):
            kept[name] = _bundle(bundle, f"{label}: attachment {shown(name)}", notes)
        else:
            notes.warn(f"{label}: attachment {shown(name)} is no JSON object, and was left out")
    return kept


def _bundle(bundle: dict[str, Any], label: str, notes: Notes) -> dict[str, Any]:
    """Data by media type: text in one piece, and anything where the type is of JSON."""
    kept: dict[str, Any] = {}
    for media_type, value in bundle.items():
        content = value if media_type.endswith("json") else joined(value)
        if media_type.endswith("json") or isinstance(content, str):
            kept[media_type] = content
        else:
            notes.warn(f"{label}: {shown(media_type)} is no text, and was left out")
    return kept


def _count(found: dict[str, Any], label: str, notes: Notes) -> int | None:
    count = found.get("execution_count")
    if isinstance(count, float) and count.is_integer():
        count = int(count)
    if count is None or (
        isinstance(count, int) and not isinstance(count, bool) and 0 <= count < _MAX_COUNT
    ):
        return count
    notes.warn(f"{label}: execution_count is no count, and became null")
    return None


def _outputs(found: dict[str, Any], label: str, notes: Notes) -> list[dict[str, Any]]:
    outputs = found.get("outputs")
    if not isinstance(outputs, list):
        if outputs is not None:
            notes.warn(f"{label}: outputs is no list, and was left out")
        return []
    cleaning = Cleaning(depth=MAX_OUTPUT_DEPTH, nul=True)
    kept: list[dict[str, Any]] = []
    for number, output in enumerate(outputs, start=1):
        told = f"{label}, output {number}"
        kind = output.get("output_type") if isinstance(output, dict) else None
        kind = _OLD_OUTPUT_TYPES.get(kind, kind) if isinstance(kind, str) else ""
        if kind not in _OUTPUT_MEMBERS:
            what = f"is of the type {shown(kind)}" if kind else "has no type"
            notes.warn(f"{told} {what}, which nbformat does not know, and was left out")
            continue
        kept.append(cleaning.clean(_output(output, kind, told, notes)))
    cleaning.report(f"{label}, outputs", notes)
    return kept


def _output(output: dict[str, Any], kind: str, label: str, notes: Notes) -> dict[str, Any]:
    """The output with what its type has, and nothing else."""
    known = _OUTPUT_MEMBERS[kind]
    _warn_of_unknown(output, {"output_type", *known}, label, notes)
    kept: dict[str, Any] = {"output_type": kind}
    for name in known:
        kept[name] = _OUTPUT_VALUES[name](output, label, notes)
    return kept


def _stream_name(output: dict[str, Any], label: str, notes: Notes) -> str:
    name = output.get("name")
    if isinstance(name, str):
        return name
    notes.warn(f"{label}: the stream has no name, and counts as stdout")
    return "stdout"


def _text(member: str) -> Callable[[dict[str, Any], str, Notes], str]:
    def read(output: dict[str, Any], label: str, notes: Notes) -> str:
        text = joined(output.get(member))
        if isinstance(text, str):
            return text
        notes.warn(f"{label}: {member} is no text, and was left empty")
        return ""

    return read


def _data(output: dict[str, Any], label: str, notes: Notes) -> dict[str, Any]:
    data = output.get("data")
    if isinstance(data, dict):
        return _bundle(data, label, notes)
    notes.warn(f"{label}: data is no JSON object, and was left empty")
    return {}


def _output_metadata(output: dict[str, Any], label: str, notes: Notes) -> dict[str, Any]:
    metadata = output.get("metadata")
    if isinstance(metadata, dict):
        return metadata
    if metadata is not None:
        notes.warn(f"{label}: metadata is no JSON object, and was left out")
    return {}


def _traceback(output: dict[str, Any], label: str, notes: Notes) -> list[str]:
    lines = output.get("traceback")
    if isinstance(lines, str):
        return lines.splitlines()
    if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
        return lines
    notes.warn(f"{label}: traceback is no list of lines, and was left empty")
    return []


_OUTPUT_VALUES: dict[str, Callable[[dict[str, Any], str, Notes], Any]] = {
    "name": _stream_name,
    "text": _text("text"),
    "data": _data,
    "metadata": _output_metadata,
    "execution_count": _count,
    "ename": _text("ename"),
    "evalue": _text("evalue"),
    "traceback": _traceback,
}


def _warn_of_unknown(
    found: dict[str, Any], known: frozenset[str] | set[str], label: str, notes: Notes
) -> None:
    unknown = [name for name in found if name not in known]
    if unknown:
        notes.warn(f"{label}: members that nbformat does not know were left out: {listed(unknown)}")
