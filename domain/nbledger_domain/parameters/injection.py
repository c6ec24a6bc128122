"""Parameters as source text, and the cell of them in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from nbledger_domain.parameters import python, r, scala
from nbledger_domain.parameters.values import JSON, UnrenderableValueError
from nbledger_domain.unseen import unseen_or_blank
from nbledger_domain.vocabulary.languages import Language

PARAMETERS_TAG: Final = "parameters"
INJECTED_TAG: Final = "injected-parameters"


class ParameterFault(msgspec.Struct, frozen=True):
    """Why one parameter cannot be given to a notebook.

    `name` is the parameter's name as it was sent, `reason` a sentence for its sender.
    """

    name: str
    reason: str


def validate_names(
    parameters: Mapping[str, JSON], language: Language = "python"
) -> list[ParameterFault]:
    """Every name that is no plain identifier of `language`, with the reason; empty if none."""
    check = _DIALECTS[language].check_name
    faults = []
    for name in parameters:
        odd = unseen_or_blank(name)
        reason = check(name) if odd is None else f"has {odd}, which no name of a variable may have"
        if reason is not None:
            faults.append(ParameterFault(name, reason))
    return faults


def validate(parameters: Mapping[str, JSON], language: Language = "python") -> list[ParameterFault]:
    """Every fault of names and values: what `assignments` would refuse, all at once."""
    faults = validate_names(parameters, language)
    render = _DIALECTS[language].literal
    for name, value in parameters.items():
        try:
            render(value, 0)
        except UnrenderableValueError as error:
            faults.append(ParameterFault(name, str(error)))
    return faults


def assignments(language: Language, parameters: Mapping[str, JSON]) -> str:
    """Source text that assigns every parameter, in their order; empty when there are none.

    Raises `ValueError` when a name is no identifier and `UnrenderableValueError` (a
    `ValueError`) when a value has no literal: call `validate` first to tell all faults.
    """
    if not parameters:
        return ""
    faults = validate_names(parameters, language)
    if faults:
        message = f"parameter {faults[0].name!r} {faults[0].reason}"
        raise ValueError(message)
    render = _DIALECTS[language].literal
    header, form = _DIALECTS[language].form
    lines = [form.format(name=name, value=render(value, 0)) for name, value in parameters.items()]
    return "\n".join([header, *lines])


def find_tagged(cells: Sequence[Mapping[str, Any]], tag: str) -> int | None:
    """Index of the first cell carrying `tag`, or None."""
    for index, cell in enumerate(cells):
        metadata = cell.get("metadata")
        tags = metadata.get("tags") if isinstance(metadata, Mapping) else None
        if isinstance(tags, Sequence) and not isinstance(tags, str) and tag in tags:
            return index
    return None


def inject(
    cells: Sequence[Mapping[str, Any]], source: str, *, cell_id: str | None = None
) -> list[dict[str, Any]]:
    """The cells with a code cell of `source`, tagged `injected-parameters`, put in its place.

    An existing injected cell is replaced where it stands (and keeps its id); else the new cell
    follows the first cell tagged `parameters`; with no such tag it comes first. The given cells
    are not changed. With an empty `source` nothing is injected. `cell_id` becomes the cell's
    nbformat id; without it the cell has none. `find_tagged(cells, INJECTED_TAG)` tells where the
    cell is.
    """
    result = [dict(cell) for cell in cells]
    if not source:
        return result
    injected: dict[str, Any] = {
        "cell_type": "code",
        "metadata": {"tags": [INJECTED_TAG]},
        "source": source,
        "execution_count": None,
        "outputs": [],
    }
    if cell_id is not None:
        injected["id"] = cell_id
    existing = find_tagged(result, INJECTED_TAG)
    if existing is not None:
        if "id" in result[existing]:
            injected["id"] = result[existing]["id"]
        result[existing] = injected
        return result
    tagged = find_tagged(result, PARAMETERS_TAG)
    result.insert(0 if tagged is None else tagged + 1, injected)
    return result


class _Dialect(msgspec.Struct, frozen=True):
    """One language: what names it has, its literals, a comment on top, and an assignment."""

    check_name: Callable[[str], str | None]
    literal: Callable[[JSON, int], str]
    form: tuple[str, str]


_DIALECTS: Final[Mapping[Language, _Dialect]] = {
    "python": _Dialect(python.check_name, python.literal, python.FORM),
    "r": _Dialect(r.check_name, r.literal, r.FORM),
    "scala": _Dialect(scala.check_name, scala.literal, scala.FORM),
}
