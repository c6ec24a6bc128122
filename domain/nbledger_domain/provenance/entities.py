"""The graph of an RO-Crate: flat, each entity once, referred to by its id."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote


def reference(entity: str) -> dict[str, str]:
    """What stands for an entity in another one."""
    return {"@id": entity}


def references(entities: Iterable[str]) -> list[dict[str, str]]:
    """What stands for several."""
    return [reference(each) for each in entities]


def short(text: str) -> str:
    """A part of an id for any text, the same each time."""
    plain = "".join(each for each in text if each.isascii() and (each.isalnum() or each in "-_."))
    if plain == text and len(text) <= _LONGEST:
        return text
    return f"{plain[:_LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


_LONGEST = 60


def named_file(path: str) -> str:
    """The id of a file at this path of the crate."""
    return quote(path, safe="/-_.~")


class Graph:
    """Entities in the order in which they were added."""

    def __init__(self) -> None:
        self._entities: dict[str, dict[str, Any]] = {}

    def add(self, entity: str, kind: str | list[str], **members: Any) -> str:
        """Add an entity, or nothing where it is there; returns its id.

        None and empty lists are left out, and a list of one is that one.
        """
        told = {name: _value(value) for name, value in members.items()}
        self._entities.setdefault(
            entity,
            {
                "@id": entity,
                "@type": kind,
                **{
                    name: value for name, value in told.items() if value is not None and value != []
                },
            },
        )
        return entity

    def complete_root(self, *, mentions: list[str]) -> None:
        """Have the root list its files, and mention these."""
        files = [each["@id"] for each in self._entities.values() if "File" in each["@type"]]
        self._entities["./"] |= {
            "hasPart": _value(references(files)),
            "mentions": _value(references(mentions)),
        }

    def entities(self) -> list[dict[str, Any]]:
        """All of them."""
        return list(self._entities.values())


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        # In the form that the profile asks for.
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    return value
