"""From an execution and its notebook to what goes to the kernel."""

import html
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from nbledger_domain import parameters
from nbledger_domain.cells import Cell
from nbledger_domain.execution import Execution
from nbledger_domain.notebook import Notebook
from nbledger_domain.parameters import INJECTED_TAG
from nbledger_domain.vocabulary.languages import BY_NAME

_MAX_HEADING: Final = 500
"""Characters of a heading that are looked at."""
_CODE: Final = re.compile(r"(?<!\\)(`+)(.+?)(?<!`)\1(?!`)")
_MARKS: Final = (
    (re.compile(r"!?\[([^\]\[]*)\](?:\([^()]*\)|\[[^\]\[]*\])"), r"\1"),
    (re.compile(r"<(https?://[^<>\s]+)>"), r"\1"),
    (re.compile(r"</?[A-Za-z][^<>]*>"), ""),
    *(
        (re.compile(rf"(?<!\\){mark}(?=[^\s*~])(.+?)(?<=[^\s*~]){mark}"), r"\1")
        for mark in (r"\*\*\*", r"\*\*", r"\*", "~~")
    ),
    *(
        (re.compile(rf"(?<![\w\\]){mark}(?=[^\s_])(.+?)(?<=[^\s_]){mark}(?!\w)"), r"\1")
        for mark in ("___", "__", "_")
    ),
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
)
"""Marks of Markdown, and what is read in their place."""


class PlanError(Exception):
    """The execution cannot be run as it was asked for."""


class RunPlan(msgspec.Struct, frozen=True):
    """The notebook for the kernel, as nbformat 4 JSON.

    ``cells`` are the planned cells by their place in it; a place that is missing there is the
    cell of parameters. ``titles`` are the headings above the cells.
    """

    notebook: bytes
    count: int
    cells: dict[int, Cell]
    titles: dict[str, str]

    @property
    def last(self) -> int | None:
        """The place of the last cell that may go to the kernel."""
        return max(
            (place for place, cell in self.cells.items() if cell.cell_type == "code"), default=None
        )


def plan(execution: Execution, notebook: Notebook, language: str) -> RunPlan:
    """What to run. Raises :class:`PlanError`."""
    by_id = {cell.cell_id: cell for cell in notebook.cells}
    missing = [cell.cell_id for cell in execution.cells if cell.cell_id not in by_id]
    if missing:
        raise PlanError(f"The notebook has no cell {missing[0]!r}.")
    planned = [by_id[cell.cell_id] for cell in execution.cells]
    raw: list[dict[str, Any]] = [_nbformat_cell(cell) for cell in planned]
    injected_at: int | None = None
    if execution.parameters:
        known = BY_NAME.get(language)
        if known is None:
            raise PlanError(f"Parameters cannot be given to a notebook in {language!r}.")
        try:
            source = parameters.assignments(known, execution.parameters)
        except ValueError as error:
            raise PlanError(f"The parameters cannot be given to the notebook: {error}.") from error
        count = len(raw)
        raw = parameters.inject(raw, source)
        if len(raw) > count:
            injected_at = parameters.find_tagged(raw, INJECTED_TAG)
    places = [index for index in range(len(raw)) if index != injected_at]
    # Without ids, as before 4.5: the kernel's side goes by place.
    document = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": raw}
    return RunPlan(
        notebook=msgspec.json.encode(document),
        count=len(raw),
        cells=dict(zip(places, planned, strict=True)),
        titles=titles(notebook.cells),
    )


def titles(cells: Sequence[Cell]) -> dict[str, str]:
    """For each cell the nearest Markdown heading above it."""
    found: dict[str, str] = {}
    heading: str | None = None
    for cell in cells:
        if cell.cell_type == "markdown":
            heading = _last_heading(cell.source) or heading
        elif heading is not None:
            found[cell.cell_id] = heading
    return found


def _nbformat_cell(cell: Cell) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "cell_type": cell.cell_type,
        "metadata": cell.metadata,
        "source": cell.source,
    }
    if cell.cell_type == "code":
        raw |= {"execution_count": None, "outputs": []}
    return raw


def _last_heading(source: str) -> str | None:
    heading = None
    fence = ""
    for line in source.splitlines():
        text = line.strip()
        if fence:
            fence = "" if text.startswith(fence) else fence
        elif text.startswith(("```", "~~~")):
            fence = text[:3]
        elif text.startswith("#"):
            words = text.lstrip("#")
            if len(text) - len(words) <= 6 and words.startswith((" ", "\t")):
                heading = _plain(words.strip().rstrip("#").strip()) or heading
    return heading


def _plain(text: str) -> str:
    """A line of Markdown as it reads: without marks, links by their text, pictures by theirs."""
    plain = ""
    for place, piece in enumerate(_CODE.split(text[:_MAX_HEADING])):
        if place % 3 == 0:
            words = piece
            for pattern, shown in _MARKS:
                words = pattern.sub(shown, words)
            plain += html.unescape(words)
        elif place % 3 == 2:
            plain += piece
    return " ".join(plain.split())
