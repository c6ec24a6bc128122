"""The state of an aggregate as plain data, by the names that fields have on the wire."""

from functools import lru_cache
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
from eventsourcing.domain import BaseAggregate

State: TypeAlias = dict[str, Any]
"""The fields of an aggregate: text, numbers, booleans, null, lists and objects."""


def state_of(aggregate: BaseAggregate[UUID]) -> State:
    """What the events so far add up to, but for what the library counts (version and times)."""
    return {
        _wire_name(name): msgspec.to_builtins(value, str_keys=True)
        for name, value in vars(aggregate).items()
        if not name.startswith("_") and value is not msgspec.UNSET
    }


@lru_cache(maxsize=1024)
def _wire_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
