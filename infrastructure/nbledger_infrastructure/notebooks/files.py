"""Notebook files (.ipynb): read into cells, and written from them, through nbformat."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import nbformat
from nbformat.v4.rwbase import split_lines

from nbledger_domain.cells import Cell, free_ids
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.vocabulary.cell_ids import CELL_ID
from nbledger_domain.words import counted
from nbledger_infrastructure.notebooks.decoding import NBFORMAT, NBFORMAT_MINOR, decode, version
from nbledger_infrastructure.notebooks.metadata import mend_notebook_metadata
from nbledger_infrastructure.notebooks.notes import Notes, listed, shown
from nbledger_infrastructure.notebooks.repairs import make_whole
from nbledger_infrastructure.notebooks.upgrades import to_v4
from nbledger_infrastructure.notebooks.values import Cleaning

_MEMBERS = frozenset(["cells", "metadata", "nbformat", "nbformat_minor"])


class ParsedNotebook(msgspec.Struct, frozen=True, kw_only=True):
    """What a notebook file says.

    ``outputs`` holds, by cell id, the cell's outputs as a JSON list in nbformat's form;
    ``nbformat`` is the version found, ``upgrades`` what was done to bring it to 4.5.
    """

    cells: list[Cell]
    outputs: dict[str, bytes]
    metadata: dict[str, Any]
    nbformat: str
    upgrades: list[str]
    warnings: list[str]


def parse_ipynb(content: bytes) -> ParsedNotebook:
    """Read a notebook file of nbformat 1 to 4, whatever its minor version.

    What Jupyter opens is accepted, and the warnings say what was put right. Raises
    :class:`InvalidInputError` that says what is wrong and where; pointers lead into the file.
    """
    notes = Notes()
    document = decode(content, notes)
    major, minor = version(document, notes)
    upgrades: list[str] = []
    if (major, minor) < (NBFORMAT, NBFORMAT_MINOR):
        upgrades.append(f"nbformat {major}.{minor} to {NBFORMAT}.{NBFORMAT_MINOR}")
    notebook = document if major == NBFORMAT else to_v4(document, major, minor, notes)
    found = notebook.get("cells")
    if not isinstance(found, list):
        raise InvalidInputError([Fault("/cells", "the file has no cells: a list is needed")])
    if unknown := [name for name in notebook if name not in _MEMBERS]:
        notes.warn(f"members that nbformat does not know were left out: {listed(unknown)}")
    _give_cell_ids(notebook, minor if major == NBFORMAT else 0, upgrades, notes)
    newer = minor > NBFORMAT_MINOR
    whole = [make_whole(cell, index, notes, newer=newer) for index, cell in enumerate(found)]
    notes.check()
    cells = [each.cell for each in whole if each is not None]
    return ParsedNotebook(
        cells=cells,
        outputs={
            each.cell.cell_id: _encode(each.outputs)
            for each in whole
            if each is not None and each.outputs
        },
        metadata=_notebook_metadata(notebook, notes),
        nbformat=f"{major}.{minor}",
        upgrades=upgrades,
        warnings=notes.warnings,
    )


def to_nbformat(
    cells: Sequence[Cell], metadata: Mapping[str, Any], outputs: Mapping[str, list[Any]]
) -> dict[str, Any]:
    """A notebook in nbformat 4.5; ``outputs`` holds those of code cells, by cell id."""
    written: list[dict[str, Any]] = []
    for cell in cells:
        entry: dict[str, Any] = {
            "cell_type": cell.cell_type,
            "id": cell.cell_id,
            "metadata": cell.metadata,
            "source": cell.source,
        }
        if cell.cell_type == "code":
            entry["execution_count"] = cell.execution_count
            entry["outputs"] = outputs.get(cell.cell_id, [])
        elif cell.attachments is not None:
            entry["attachments"] = cell.attachments
        written.append(entry)
    return {
        "cells": written,
        "metadata": dict(metadata),
        "nbformat": NBFORMAT,
        "nbformat_minor": NBFORMAT_MINOR,
    }


def render_ipynb(
    cells: Sequence[Cell], metadata: Mapping[str, Any], outputs: Mapping[str, list[Any]]
) -> bytes:
    """A notebook file, laid out as Jupyter writes it."""
    notebook = split_lines(nbformat.from_dict(to_nbformat(cells, metadata, outputs)))
    text = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        # A lone surrogate is legal in JSON as an escape, but has no UTF-8 form.
        return json.dumps(notebook, indent=1, sort_keys=True).encode() + b"\n"


def _notebook_metadata(notebook: dict[str, Any], notes: Notes) -> dict[str, Any]:
    metadata = notebook.get("metadata")
    if not isinstance(metadata, dict):
        if "metadata" in notebook:
            notes.warn("metadata of the notebook is no JSON object, and was left out")
        return {}
    cleaning = Cleaning()
    cleaned: dict[str, Any] = cleaning.clean(metadata)
    cleaning.report("metadata of the notebook", notes)
    return mend_notebook_metadata(cleaned, "metadata of the notebook", notes)


def _give_cell_ids(document: dict[str, Any], minor: int, upgrades: list[str], notes: Notes) -> None:
    """Give an id to every cell that lacks a usable one of its own, and say so."""
    cells = document["cells"]
    found = [cell for cell in cells if isinstance(cell, dict)]
    fresh = iter(free_ids(str(cell.get("id")) for cell in found))
    taken: set[str] = set()
    given = 0
    for index, cell in enumerate(cells):
        if not isinstance(cell, dict):
            continue
        cell_id = cell.get("id")
        if isinstance(cell_id, str) and CELL_ID.match(cell_id) and cell_id not in taken:
            taken.add(cell_id)
            continue
        cell["id"] = next(fresh)
        if minor < NBFORMAT_MINOR and cell_id is None:
            given += 1
        elif cell_id is None:
            notes.warn(f"cell {index + 1} had no id and was given {cell['id']!r}")
        else:
            fault = "is used twice" if str(cell_id) in taken else "is not a valid id"
            told = f"cell {index + 1}: id {shown(cell_id)} {fault}"
            notes.warn(f"{told}; it was given {cell['id']!r}")
    if given:
        upgrades.append(f"ids given to {counted(given, 'cell')}")


def _encode(outputs: list[Any]) -> bytes:
    return json.dumps(outputs, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
