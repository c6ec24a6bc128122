"""Metadata as nbformat 4.5 has it: what is of another kind is taken out, and told.

Whoever reads the metadata of a file relies on nbformat's schema; these are its rules.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from nbledger_domain.cells import CellType
from nbledger_infrastructure.notebooks.notes import MAX_SHOWN, Notes, shown

Rule = Callable[[Any], bool]

_SOME_TEXT = re.compile(r"^.+$")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _SOME_TEXT.search(value) is not None


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_version(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 1 and (isinstance(value, int) or value.is_integer())


_OF_ALL: Mapping[str, Rule] = {"jupyter": _is_object, "name": _is_name}
_OF_CELLS: Mapping[CellType, Mapping[str, Rule]] = {
    "markdown": _OF_ALL,
    "raw": {**_OF_ALL, "format": _is_text},
    "code": {
        **_OF_ALL,
        "execution": _is_object,
        "collapsed": _is_flag,
        "scrolled": lambda value: isinstance(value, bool) or value == "auto",
    },
}
_OF_NOTEBOOKS: Mapping[str, Rule] = {
    "kernelspec": _is_object,
    "language_info": _is_object,
    "orig_nbformat": _is_version,
    "title": _is_text,
    "authors": lambda value: isinstance(value, list),
}
_OF_KERNELS: Mapping[str, Rule] = {"name": _is_text, "display_name": _is_text}
_OF_LANGUAGES: Mapping[str, Rule] = {
    "name": _is_text,
    "codemirror_mode": lambda value: isinstance(value, str | dict),
    "file_extension": _is_text,
    "mimetype": _is_text,
    "pygments_lexer": _is_text,
}


def mend_cell_metadata(
    metadata: dict[str, Any], kind: CellType, label: str, notes: Notes
) -> dict[str, Any]:
    """``metadata`` of a cell, without tags, as nbformat has it; the given one is not changed."""
    found = _kept(metadata, _OF_CELLS[kind], label, "", notes)
    times = found.get("execution")
    if kind == "code" and isinstance(times, dict):
        rules = dict.fromkeys(times, _is_text)
        found["execution"] = _kept(times, rules, label, "execution.", notes)
    return found


def mend_notebook_metadata(metadata: dict[str, Any], label: str, notes: Notes) -> dict[str, Any]:
    """``metadata`` of a notebook likewise; what is missing in it is told and not made up."""
    found = _kept(metadata, _OF_NOTEBOOKS, label, "", notes)
    for name, rules, needed in (
        ("kernelspec", _OF_KERNELS, ("name", "display_name")),
        ("language_info", _OF_LANGUAGES, ("name",)),
    ):
        if isinstance(found.get(name), dict):
            found[name] = _kept(found[name], rules, label, f"{name}.", notes)
            missing = [each for each in needed if each not in found[name]]
            if missing:
                notes.warn(f"{label}: {name} has no {' and no '.join(map(shown, missing))}")
    return found


def _kept(
    metadata: Mapping[str, Any], rules: Mapping[str, Rule], label: str, prefix: str, notes: Notes
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in metadata.items():
        rule = rules.get(name)
        if rule is None or rule(value):
            kept[name] = value
        else:
            told = f"{label}: {prefix}{name[:MAX_SHOWN]}"
            notes.warn(f"{told} is not as nbformat says, and was left out")
    return kept
