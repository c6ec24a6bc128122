"""What is to be said of the parameters of a run: what of them the notebook does not take."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from nbledger_domain.cells import Cell
from nbledger_domain.errors import Fault
from nbledger_domain.parameter_names import names_set
from nbledger_domain.parameters import INJECTED_TAG, PARAMETERS_TAG, Language
from nbledger_domain.parameters.declarations import declared_in, known_names, parameters_cell
from nbledger_domain.parameters.declared import Declared, JsonType, type_of
from nbledger_domain.words import MAX_NAME, nearest
from nbledger_http.requests.json_bodies import MAX_TOLD, escaped

_MAX_LISTED = 20
_MAX_WARNED = 20


class Advice(msgspec.Struct, frozen=True):
    """Faults of parameters that the notebook does not take, and a warning of their place.

    ``more`` parameters have faults that are not among these.
    """

    faults: list[Fault] = []
    warnings: list[str] = []
    more: int = 0


def advice(
    cells: Sequence[Cell],
    run: Sequence[Cell],
    parameters: Mapping[str, Any],
    language: Language | None,
) -> Advice:
    """What is to be said of ``parameters`` for a ``run`` of some of a notebook's ``cells``.

    They override what the first cell tagged `parameters` sets; without one they are set before
    the first cell. Nothing is said of a ``language`` that is not known.
    """
    if not parameters or language is None:
        return Advice()
    tagged = parameters_cell(cells)
    if tagged is not None:
        return _of_declared(tagged, parameters, language)
    if any(INJECTED_TAG in cell.tags for cell in run):
        return Advice()
    warning = (
        f"/parameters: no cell is tagged {PARAMETERS_TAG!r}; they are set before the first cell"
    )
    own = _set_by(run, parameters, language)
    if own:
        counts = "that value counts" if len(own) == 1 else "those values count"
        warning += f". The notebook then sets {_listed(own)} itself, and {counts}"
    return Advice(
        faults=[
            Fault(_pointer(name), f"no cell of the notebook is tagged {PARAMETERS_TAG!r}")
            for name in list(parameters)[:MAX_TOLD]
        ],
        warnings=[warning],
    )


def _of_declared(cell: Cell, parameters: Mapping[str, Any], language: Language) -> Advice:
    """What is to be said beside the cell that declares what the notebook takes."""
    declared = declared_in(cell.source, language)
    known = known_names(declared, cell.source, language)
    names = set(known)
    unknown = [name for name in parameters if name not in names]
    faults = [_unknown(name, known) for name in unknown[:MAX_TOLD]]
    faults.extend(
        _mistyped(each, parameters[each.name])
        for each in declared
        if each.name in parameters and not each.takes(parameters[each.name])
    )
    more = len(unknown) - min(len(unknown), MAX_TOLD) + max(0, len(faults) - MAX_TOLD)
    return Advice(faults=faults[:MAX_TOLD], more=more)


def as_warnings(told: Advice) -> list[str]:
    """The advice for a run that goes on nevertheless, short enough to be kept with it."""
    if told.warnings:
        return told.warnings
    warnings = [f"{_cut(fault.pointer)}: {fault.reason}" for fault in told.faults[:_MAX_WARNED]]
    more = len(told.faults) - len(warnings) + told.more
    if more:
        warnings.append(
            f"/parameters: the cell tagged {PARAMETERS_TAG!r} does not take {more:,} more"
        )
    return warnings


def _cut(pointer: str) -> str:
    return pointer if len(pointer) <= 2 * MAX_NAME else f"{pointer[: 2 * MAX_NAME]}…"


def _unknown(name: str, known: Sequence[str]) -> Fault:
    near = nearest(name, known)
    hint = f"; did you mean {near}?" if near is not None else f"; it sets {_listed(known)}"
    return Fault(_pointer(name), f"the cell tagged {PARAMETERS_TAG!r} does not set it{hint}")


_WORDS: Mapping[JsonType, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def _mistyped(declared: Declared, value: Any) -> Fault:
    wanted = " or ".join(_WORDS[kind] for kind in declared.types)
    how = "" if declared.declared_type is None else f" ({declared.declared_type[:MAX_NAME]})"
    told = f"is {_WORDS[type_of(value)]}, and the notebook takes {wanted}{how}"
    return Fault(_pointer(declared.name), told)


def _set_by(cells: Iterable[Cell], parameters: Mapping[str, Any], language: Language) -> list[str]:
    """Those of ``parameters`` that ``cells`` set."""
    found: set[str] = set()
    for cell in cells:
        # Most cells name none of them, and need not be taken apart.
        if cell.cell_type == "code" and any(name in cell.source for name in parameters):
            found.update(names_set(cell.source, language))
    return [name for name in parameters if name in found]


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(name[:MAX_NAME] for name in names[:_MAX_LISTED]) + more


def _pointer(name: str) -> str:
    return f"/parameters/{escaped(name)}"
