"""What a cell declares of a notebook's parameters, in any of the languages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from nbledger_domain.cells import Cell
from nbledger_domain.parameter_names import MAX_SOURCE, names_set
from nbledger_domain.parameters import (
    python_declarations,
    r_declarations,
    scala_declarations,
)
from nbledger_domain.parameters.declared import MAX_DECLARED, Declared
from nbledger_domain.parameters.injection import PARAMETERS_TAG
from nbledger_domain.vocabulary.languages import Language

_READERS: Final[Mapping[Language, Callable[[str], list[Declared] | None]]] = {
    "python": python_declarations.declarations,
    "r": r_declarations.declarations,
    "scala": scala_declarations.declarations,
}


def parameters_cell(cells: Sequence[Cell]) -> Cell | None:
    """The first cell tagged ``parameters``."""
    return next((cell for cell in cells if PARAMETERS_TAG in cell.tags), None)


def declared_in(source: str, language: Language) -> list[Declared]:
    """The parameters that a cell of ``source`` declares, in their order; nothing is evaluated.

    Of code that cannot be read, names alone.
    """
    found = _READERS[language](source[:MAX_SOURCE])
    if found is None:
        found = [Declared(name=name) for name in names_set(source, language)]
    return found[:MAX_DECLARED]


def known_names(declared: Sequence[Declared], source: str, language: Language) -> list[str]:
    """All names that the cell takes: those that it declares, and whatever else it sets."""
    names = [each.name for each in declared]
    return list(dict.fromkeys([*names, *names_set(source, language)]))
