"""The header of a CSV file: names of columns, made up where it has none."""

import itertools
from collections.abc import Container, Sequence

from nbledger_domain.errors import InvalidCsvError
from nbledger_infrastructure.datasets.csv_dialect import (
    MAX_COLUMNS,
    MAX_NAME,
)


def named_columns(header: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
    """Names of the columns, and the places of those that the header leaves without one."""
    names = [name.strip() for name in header]
    if len(names) > MAX_COLUMNS:
        raise InvalidCsvError(f"there are more than {MAX_COLUMNS:,} columns", row=1)
    seen: set[str] = set()
    nameless = tuple(place for place, name in enumerate(names) if not name)
    for number, name in enumerate(names, 1):
        if not name:
            continue
        if len(name) > MAX_NAME:
            reason = f"the header has a name of more than {MAX_NAME} characters"
            raise InvalidCsvError(reason, row=1, number=number)
        if name in seen:
            reason = "the header names this column twice"
            raise InvalidCsvError(reason, row=1, number=number, name=name)
        seen.add(name)
    if not names:
        raise InvalidCsvError("the first line is blank; it has to name the columns", row=1)
    for place in nameless:
        names[place] = _made_up_name(place, seen)
        seen.add(names[place])
    return names, nameless


def _made_up_name(place: int, taken: Container[str]) -> str:
    """What pandas calls a column without a name, such as the index that it writes itself."""
    name = f"Unnamed: {place}"
    others = (f"{name}.{number}" for number in itertools.count(1))
    return name if name not in taken else next(each for each in others if each not in taken)
