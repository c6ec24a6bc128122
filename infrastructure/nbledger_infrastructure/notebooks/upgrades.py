"""Notebooks of nbformat 1 to 3, brought to 4 by nbformat's own conversion.

That conversion stops at the first member that is missing or of another kind than it expects, so
these are put right before.
"""

import json
import warnings
from collections.abc import Iterator
from typing import Any

import nbformat
from nbformat.v3.nbjson import to_notebook as read_v3

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_infrastructure.notebooks.decoding import broken
from nbledger_infrastructure.notebooks.notes import Notes, shown

_OUTPUT_TYPES = ("pyout", "display_data", "stream", "pyerr")
_KINDS = ("code", "markdown", "raw", "heading", "html")
_MULTILINE = ("text", "html", "svg", "latex", "javascript", "json")


def to_v4(document: dict[str, Any], major: int, minor: int, notes: Notes) -> dict[str, Any]:
    """The notebook in nbformat 4, in plain types. Raises :class:`InvalidInputError`."""
    old = _from_v1(document) if major == 1 else dict(document)
    worksheets = old.get("worksheets")
    if not isinstance(worksheets, list):
        raise InvalidInputError(
            [Fault("/worksheets", "the file has no cells: it needs worksheets")]
        )
    metadata = old.get("metadata")
    old |= {
        "nbformat": 3,
        "nbformat_minor": 0 if major < 3 else minor,
        "metadata": metadata if isinstance(metadata, dict) else {},
        "worksheets": [{"cells": list(_cells(worksheets, notes))}],
    }
    notes.check()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            notebook = nbformat.convert(read_v3(old), 4)  # type: ignore[no-untyped-call]
        found: dict[str, Any] = json.loads(json.dumps(notebook))
    except Exception as error:  # noqa: BLE001 (nbformat raises whatever the document causes)
        kind = type(error).__name__
        raise broken(f"cannot be upgraded from nbformat {major}.{minor} ({kind})") from None
    for cell in found["cells"]:
        # The library makes up random ids; ours are the same at every upload.
        cell.pop("id", None)
    return found


def _from_v1(document: dict[str, Any]) -> dict[str, Any]:
    cells = document.get("cells")
    if not isinstance(cells, list):
        raise InvalidInputError([Fault("/cells", "the file has no cells: a list is needed")])
    return {"worksheets": [{"cells": [_v1_cell(cell) for cell in cells]}]}


def _v1_cell(cell: Any) -> Any:
    if not isinstance(cell, dict):
        return cell
    if cell.get("cell_type") == "text":
        return {"cell_type": "markdown", "source": cell.get("text")}
    return {
        "cell_type": cell.get("cell_type"),
        "input": cell.get("code"),
        "prompt_number": cell.get("prompt_number"),
        "language": "python",
    }


def _cells(worksheets: list[Any], notes: Notes) -> Iterator[dict[str, Any]]:
    """The cells of all worksheets, in order, as the conversion needs them."""
    number = 0
    for place, worksheet in enumerate(worksheets):
        cells = worksheet.get("cells") if isinstance(worksheet, dict) else None
        if not isinstance(cells, list):
            notes.warn(f"worksheet {place + 1} has no cells and was left out")
            continue
        for index, cell in enumerate(cells):
            number += 1
            found = _cell(cell, f"cell {number}", f"/worksheets/{place}/cells/{index}", notes)
            if found is not None:
                yield found


def _cell(cell: Any, label: str, pointer: str, notes: Notes) -> dict[str, Any] | None:
    if not isinstance(cell, dict):
        notes.refuse(pointer, f"{label} is no JSON object")
        return None
    kind = cell.get("cell_type")
    if kind not in _KINDS:
        is_ = "has no cell_type" if kind is None else f"is of the type {shown(kind)}"
        notes.refuse(f"{pointer}/cell_type", f"{label} {is_}, which is none of {', '.join(_KINDS)}")
        return None
    found = dict(cell)
    if not isinstance(found.get("metadata", {}), dict):
        notes.warn(f"{label}: metadata is no JSON object, and was left out")
        del found["metadata"]
    member = "input" if kind == "code" else "source"
    source = found.get(member)
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        pass
    elif source is None and kind != "code":
        notes.warn(f"{label} has no source, and is empty")
        found[member] = ""
    elif not isinstance(source, str):
        told = "has no source" if source is None else "has a source that is no text"
        notes.refuse(f"{pointer}/{member}", f"{label} {told}")
        return None
    if kind == "heading":
        found["level"] = _level(found.get("level"))
    if kind == "code":
        found["outputs"] = _outputs(found.get("outputs", []), label, notes)
    # What nbformat 3 has and 4 has not.
    for name in ("rendered", "collapsed") if kind != "code" else ("rendered",):
        found.pop(name, None)
    return found


def _level(value: Any) -> int:
    return min(max(value, 1), 6) if isinstance(value, int) else 1


def _outputs(outputs: Any, label: str, notes: Notes) -> list[dict[str, Any]]:
    if not isinstance(outputs, list):
        notes.warn(f"{label}: outputs is no list, and was left out")
        return []
    found: list[dict[str, Any]] = []
    for number, output in enumerate(outputs, start=1):
        kind = output.get("output_type") if isinstance(output, dict) else None
        if kind not in _OUTPUT_TYPES:
            notes.warn(f"{label}: output {number} is none that nbformat 3 knows, and was left out")
            continue
        found.append(_output(dict(output), f"{label}, output {number}", notes))
    return found


def _output(output: dict[str, Any], label: str, notes: Notes) -> dict[str, Any]:
    if not isinstance(output.get("metadata", {}), dict):
        del output["metadata"]
    for name in _MULTILINE:
        value = output.get(name)
        if isinstance(value, list) and not all(isinstance(line, str) for line in value):
            notes.warn(f"{label}: {name} is no text, and was left out")
            del output[name]
    if "json" in output:
        _mend_json(output, label, notes)
    return output


def _mend_json(output: dict[str, Any], label: str, notes: Notes) -> None:
    """Let ``json`` be text that holds JSON, as nbformat 3 has it and the conversion parses it."""
    value = output["json"]
    text = "".join(value) if isinstance(value, list) else value
    if not isinstance(text, str):
        output["json"] = json.dumps(value)  # an object already
        return
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        notes.warn(f"{label}: json holds no JSON; it is kept as a text")
        output["json"] = json.dumps(text)
    else:
        output["json"] = text
