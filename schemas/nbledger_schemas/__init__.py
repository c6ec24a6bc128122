"""JSON Schemas of the events, as subscribers get them: one file for each type and version.

The files are written from the types of the domain by ``make schemas`` and are part of the package,
so that a version whose class is gone stays described. Everything here is plain data: whoever
serves or publishes schemas adds the address of this installation.
"""

from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


@cache
def published() -> dict[str, Schema]:
    """The schema of every event by its type, in order. Nobody may change what is returned."""
    return _in_folder("events")


@cache
def states() -> dict[str, Schema]:
    """The schema of each state, by its type. Nobody may change what is returned."""
    return _in_folder("states")


def _in_folder(name: str) -> dict[str, Schema]:
    folder = files(__name__) / name
    found = {
        entry.name.removesuffix(".json"): msgspec.json.decode(entry.read_bytes())
        for entry in folder.iterdir()
        if entry.name.endswith(".json")
    }
    return dict(sorted(found.items()))


def located(schema: Schema, base: str) -> Schema:
    """``schema`` with the absolute address that it has at ``base``, such as ``https://host``."""
    return {**schema, "$id": base + schema["$id"]}
