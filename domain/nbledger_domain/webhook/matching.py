"""Which events a webhook wants."""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

import msgspec

TYPE_PATTERN: Final = r"[a-z]+(?:\.[a-z-]+(?:\.v[1-9][0-9]*)?)?"
"""A type of events, or the beginning of one: ``execution``, ``execution.completed``."""

_VERSIONED: Final = re.compile(r".*\.v[0-9]+")


def type_matches(wanted: str, stored_type: str) -> bool:
    """Whether an event that is stored under ``stored_type`` is of the type ``wanted``."""
    if _VERSIONED.fullmatch(wanted):
        return stored_type == wanted
    return stored_type.startswith(f"{wanted}.")


class EventSelection(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The events that a webhook wants; an empty part is no condition.

    ``tags`` are of executions: with them, only events of executions that were requested with one
    of them are wanted.
    """

    event_types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def takes_type(self, stored_type: str) -> bool:
        """Whether an event of this type is wanted, as far as its type tells."""
        return not self.event_types or _any_matches(self.event_types, stored_type)

    def takes_tags(self, tags: Collection[str]) -> bool:
        """Whether an event is wanted of an execution with these tags; of others there are none."""
        return not self.tags or not set(self.tags).isdisjoint(tags)


# Asked for each event and each webhook of its project.
@lru_cache(maxsize=16_384)
def _any_matches(wanted: tuple[str, ...], stored_type: str) -> bool:
    return any(type_matches(each, stored_type) for each in wanted)
