"""Notebook files (.ipynb): read into cells, and written from them, through nbformat."""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import nbformat
from nbformat.v3.nbjson import to_notebook as read_v3
from nbformat.v4.rwbase import split_lines
from nbformat.validator import iter_validate

from nbledger_domain.cells import CELL_ID, Cell, free_ids
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.words import counted

NBFORMAT, NBFORMAT_MINOR = 4, 5
MAX_FAULTS = 100


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
    """Read a notebook file of nbformat 3 to 4.5.

    Raises :class:`InvalidInputError` that says what is wrong and where; pointers lead into the
    file.
    """
    document = _decode(content)
    major, minor = _version(document)
    upgrades: list[str] = []
    notes: list[str] = []
    if (major, minor) != (NBFORMAT, NBFORMAT_MINOR):
        upgrades.append(f"nbformat {major}.{minor} to {NBFORMAT}.{NBFORMAT_MINOR}")
    if major == 3:
        _check(document, major, minor)
    else:
        _give_cell_ids(document, minor, upgrades, notes)
    notebook = _upgrade(document, major, minor)
    if major == 3:
        # The library has made up random ids; ours are the same at every upload.
        for cell in notebook["cells"]:
            cell.pop("id", None)
        _give_cell_ids(notebook, 0, upgrades, notes)
    _check(notebook, NBFORMAT, NBFORMAT_MINOR)
    cells: list[Cell] = []
    outputs: dict[str, bytes] = {}
    for found in notebook["cells"]:
        cells.append(_cell(found))
        if found.get("outputs"):
            outputs[found["id"]] = _encode(found["outputs"])
    return ParsedNotebook(
        cells=cells,
        outputs=outputs,
        metadata=notebook["metadata"],
        nbformat=f"{major}.{minor}",
        upgrades=upgrades,
        warnings=notes,
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


def _decode(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _broken(f"is not UTF-8: byte {error.start} cannot be read") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _broken(f"is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise _broken("is nested too deeply") from None
    except ValueError as error:  # an integer of more than 4,300 digits
        raise _broken(f"holds a number that cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise _broken("is not a notebook: a JSON object is needed")
    return document


def _version(document: dict[str, Any]) -> tuple[int, int]:
    major, minor = document.get("nbformat"), document.get("nbformat_minor", 0)
    if not isinstance(major, int) or isinstance(major, bool):
        raise InvalidInputError([Fault("/nbformat", "a whole number is needed")])
    if not isinstance(minor, int) or isinstance(minor, bool) or minor < 0:
        raise InvalidInputError([Fault("/nbformat_minor", "a whole number is needed")])
    if major not in (3, 4) or (major == 4 and minor > NBFORMAT_MINOR):
        reason = f"version {major}.{minor} is not supported; 3 to 4.5 are"
        raise InvalidInputError([Fault("/nbformat", reason)])
    return major, minor


def _upgrade(document: dict[str, Any], major: int, minor: int) -> dict[str, Any]:
    if (major, minor) == (NBFORMAT, NBFORMAT_MINOR):
        notebook = document
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = read_v3(document) if major == 3 else _plain(document)
                notebook = nbformat.convert(nbformat.from_dict(found), NBFORMAT)
        except Exception as error:  # noqa: BLE001 (nbformat raises whatever the document causes)
            raise _broken(f"cannot be upgraded from {major}.{minor}: {error}") from None
    notebook["nbformat"], notebook["nbformat_minor"] = NBFORMAT, NBFORMAT_MINOR
    return _plain(notebook)


def _plain(document: Any) -> dict[str, Any]:
    """The same in plain types, with texts that were split into lines joined."""
    notebook: dict[str, Any] = json.loads(json.dumps(document))
    cells = notebook.get("cells")
    for cell in cells if isinstance(cells, list) else []:
        if not isinstance(cell, dict):
            continue
        cell["source"] = _joined(cell.get("source"))
        outputs = cell.get("outputs")
        for output in outputs if isinstance(outputs, list) else []:
            if isinstance(output, dict) and "text" in output:
                output["text"] = _joined(output["text"])
            data = output.get("data") if isinstance(output, dict) else None
            if isinstance(data, dict):
                output["data"] = {
                    media_type: value if media_type.endswith("json") else _joined(value)
                    for media_type, value in data.items()
                }
    return notebook


def _joined(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return value


def _check(document: dict[str, Any], major: int, minor: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        errors = iter_validate(document, version=major, version_minor=minor)
    faults: list[Fault] = []
    for error in errors:
        faults.append(_fault(error))
        if len(faults) == MAX_FAULTS:
            break
    if faults:
        raise InvalidInputError(faults)


def _fault(error: Any) -> Fault:
    path = "".join(f"/{part}" for part in error.relative_path)
    reason: str = error.message
    if len(reason) > 300:
        reason = f"{reason[:300]}…"
    return Fault(path, reason)


def _give_cell_ids(
    document: dict[str, Any], minor: int, upgrades: list[str], notes: list[str]
) -> None:
    """Give an id to every cell that lacks a usable one of its own, and say so."""
    cells = document.get("cells")
    if not isinstance(cells, list):
        return
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
            notes.append(f"cell {index + 1} had no id and was given {cell['id']!r}")
        else:
            fault = "is used twice" if cell_id in taken else "is not a valid id"
            notes.append(f"cell {index + 1}: id {cell_id!r} {fault}; it was given {cell['id']!r}")
    if given:
        upgrades.append(f"ids given to {counted(given, 'cell')}")


def _cell(found: dict[str, Any]) -> Cell:
    return Cell(
        cell_id=found["id"],
        cell_type=found["cell_type"],
        source=found["source"],
        metadata=found["metadata"],
        attachments=found.get("attachments"),
        execution_count=found.get("execution_count"),
    )


def _encode(outputs: list[Any]) -> bytes:
    return json.dumps(outputs, separators=(",", ":"), sort_keys=True).encode()


def _broken(reason: str) -> InvalidInputError:
    return InvalidInputError([Fault("", f"the file {reason}")])
