"""Notebook templates: the .ipynb files of this folder, by name.

What is told of a template stands in it: its first markdown cell begins with its title, followed by
its description; its parameters are the assignments in the cell tagged ``parameters``.
"""

import ast
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from nbledger_domain.cells import Cell
from nbledger_domain.vocabulary.languages import DEFAULT_KERNEL_TYPE
from nbledger_infrastructure.notebooks.files import ParsedNotebook, parse_ipynb
from nbledger_infrastructure.notebooks.kernelspecs import kernel_type_of

_SUFFIX = ".ipynb"


class TemplateParameter(msgspec.Struct, frozen=True):
    """What a run of the template may be given, and what counts otherwise."""

    name: str
    default: Any
    description: str


class Template(msgspec.Struct, frozen=True):
    """What there is to know of a template before it is taken."""

    name: str
    title: str
    description: str
    kernel_type: str
    parameters: list[TemplateParameter]


@cache
def names() -> tuple[str, ...]:
    """The names of all templates, in order."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(_SUFFIX) for f in files if f.name.endswith(_SUFFIX)))


@cache
def load(name: str) -> ParsedNotebook:
    """The template called ``name``. Raises :class:`KeyError` when there is none."""
    if name not in names():
        raise KeyError(name)
    return parse_ipynb(resources.files(__name__).joinpath(name + _SUFFIX).read_bytes())


@cache
def describe(name: str) -> Template:
    """What there is to know of ``name``. Raises :class:`KeyError` when there is none."""
    notebook = load(name)
    heading, _, text = notebook.cells[0].source.partition("\n")
    return Template(
        name=name,
        title=heading.lstrip("# "),
        description=" ".join(text.split()),
        kernel_type=kernel_type_of(notebook.metadata, {}) or DEFAULT_KERNEL_TYPE,
        parameters=[
            parameter
            for cell in notebook.cells
            if "parameters" in cell.metadata.get("tags", ())
            for parameter in _parameters(cell)
        ],
    )


def _parameters(cell: Cell) -> list[TemplateParameter]:
    lines = cell.source.splitlines()
    found = []
    for statement in ast.parse(cell.source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            _, _, comment = lines[statement.lineno - 1].partition("  # ")
            default = ast.literal_eval(statement.value)
            found.append(TemplateParameter(statement.targets[0].id, default, comment))
    return found
