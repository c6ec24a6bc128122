"""OpenLineage's own word on documents: the classes that it generates from its schemas.

They are read strictly: no member may be unknown or of another type, and each facet's schema must be
the one that its class names. Where NBLEDGER_TEST_OPENLINEAGE is the folder `spec` of OpenLineage's
repository, each document must also be valid by its JSON Schemas.
"""

from __future__ import annotations

import json
import os
import re
import types
import typing
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import attr
import jsonschema  # type: ignore[import-untyped]
import openlineage.client.facet_v2  # noqa: F401 - makes all facets known
import referencing
from openlineage.client.generated import base

SPECIFICATION = os.environ.get("NBLEDGER_TEST_OPENLINEAGE", "")


def check(document: dict[str, Any]) -> None:
    """Raise AssertionError, or what the classes raise, where the document is none."""
    kind = getattr(base, document["schemaURL"].rpartition("/")[2])
    _read(kind, document)
    assert re.match(r"^https?://|^urn:[a-z0-9]{2,}:\S", document["producer"])
    if SPECIFICATION:
        _validator().validate(document)
        for place in _facets(document):
            _facet_validator(place["_schemaURL"]).validate(place)


def _read(kind: Any, value: Any) -> Any:
    if attr.has(kind):
        return _read_class(kind, value)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, value)
    if origin is list:
        assert isinstance(value, list)
        return [_read(arguments[0], each) for each in value]
    if origin is dict:
        assert isinstance(value, dict)
        return {name: _read(_facet_class(arguments[1], each), each) for name, each in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind is not Any:
        assert type(value) is kind or (kind is float and type(value) is int), (kind, value)
    return value


def _read_union(arguments: tuple[Any, ...], value: Any) -> Any:
    if value is None:
        assert type(None) in arguments
        return None
    kinds = [each for each in arguments if each is not type(None)]
    assert len(kinds) == 1, kinds
    return _read(kinds[0], value)


def _read_class(kind: Any, value: Any) -> Any:
    assert isinstance(value, dict), value
    hints, fields = _members(kind)
    assert value.keys() <= fields.keys(), (kind, value.keys() - fields.keys())
    read = {name: _read(hints[name], each) for name, each in value.items()}
    # Each class says itself which schema it is of.
    made = kind(**{fields[name].alias: each for name, each in read.items() if fields[name].init})
    for name, each in value.items():
        if not fields[name].init:
            assert getattr(made, name) == each, (kind, name)
    return made


@cache
def _members(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return typing.get_type_hints(kind), {each.name: each for each in attr.fields(kind)}


def _facet_class(declared: Any, facet: Any) -> Any:
    """The class of a facet, which must be of the sort that stands there."""
    if not (attr.has(declared) and issubclass(declared, base.BaseFacet)):
        return declared
    found = _classes()[facet["_schemaURL"].rpartition("/")[2]]
    assert issubclass(found, declared), (declared, found)
    return found


@cache
def _classes() -> dict[str, Any]:
    found: dict[str, Any] = {}
    ahead: list[Any] = [base.BaseFacet]
    while ahead:
        at = ahead.pop()
        found[at.__name__] = at
        ahead += at.__subclasses__()
    return found


def _facets(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for each in value for found in _facets(each)]
    if not isinstance(value, dict):
        return []
    own = [value] if "_schemaURL" in value else []
    return own + [found for each in value.values() for found in _facets(each)]


@cache
def _registry() -> Any:
    paths = [Path(SPECIFICATION, "OpenLineage.json"), *Path(SPECIFICATION, "facets").glob("*.json")]
    schemas = [json.loads(path.read_text()) for path in paths]
    return referencing.Registry().with_resources(
        (each["$id"], referencing.Resource.from_contents(each)) for each in schemas
    )


@cache
def _validator() -> Any:
    schema = json.loads(Path(SPECIFICATION, "OpenLineage.json").read_text())
    return jsonschema.Draft202012Validator(
        schema, registry=_registry(), format_checker=jsonschema.FormatChecker()
    )


@cache
def _facet_validator(url: str) -> Any:
    return jsonschema.Draft202012Validator(
        {"$ref": url}, registry=_registry(), format_checker=jsonschema.FormatChecker()
    )
