"""The JSON Schema of an event, from its type.

Schemas say what a reader may rely on, and no more: members that nobody knows yet may appear, so
objects are never closed, and lists of values that grow are open.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import inspect

from nbledger_domain import catalogue  # noqa: F401 - events are known once it is imported
from nbledger_domain.events import EVENT_TYPES, DomainEvent
from nbledger_domain.vocabulary.addresses import event_schema_path
from nbledger_domain.vocabulary.termination import TerminationCode
from nbledger_schemas import DIALECT, Schema
from nbledger_schemas.describing import meaning, paragraphs

__all__ = ["current", "document_schema", "event_schema"]

ENVELOPE: Final = frozenset(
    {"originator_id", "originator_version", "timestamp", "originator_topic"}
)
"""Fields of events that are no part of the payload."""

OPEN: Final = (TerminationCode,)
"""Enumerations to which values are added without a new version of the events."""

_BOUNDS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "pattern": "pattern",
    "min_length": "minLength",
    "max_length": "maxLength",
}
_PLAIN: Final[dict[type[inspect.Type], Schema]] = {
    inspect.AnyType: {},
    inspect.NoneType: {"type": "null"},
    inspect.BoolType: {"type": "boolean"},
    inspect.IntType: {"type": "integer"},
    inspect.FloatType: {"type": "number"},
    inspect.StrType: {"type": "string"},
    inspect.DateTimeType: {"type": "string", "format": "date-time"},
    inspect.UUIDType: {"type": "string", "format": "uuid"},
}


def event_schema(
    type_name: str, event_class: type[DomainEvent], examples: Sequence[Any] = ()
) -> Schema:
    """The schema of the payload of ``event_class``, published as ``type_name``."""
    return document_schema(
        type_name, event_schema_path(type_name), event_class, examples, without=ENVELOPE
    )


def document_schema(
    title: str,
    path: str,
    kind: type[msgspec.Struct],
    examples: Sequence[Any] = (),
    *,
    without: Collection[str] = (),
    description: str = "",
) -> Schema:
    """The schema of a document of the type ``kind``, served at ``path``.

    Its fields ``without`` are no part of what is published. The ``description`` takes the place of
    the docstring.
    """
    definitions: dict[str, Schema] = {}
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)  # noqa: S101 (documents are structs)
    body = _struct(described, definitions, without)
    schema: Schema = {"$schema": DIALECT, "$id": path, "title": title, **body}
    if description:
        schema["description"] = description
    if definitions:
        schema["$defs"] = dict(sorted(definitions.items()))
    if examples:
        schema["examples"] = list(examples)
    return schema


def current(examples: Mapping[str, Sequence[Any]]) -> dict[str, Schema]:
    """The schemas of all event types that have a class, each with its ``examples``."""
    return {
        name: event_schema(name, event_class, examples.get(name, ()))
        for name, (event_class, _) in sorted(EVENT_TYPES.classes.items())
    }


def _struct(
    kind: inspect.StructType, definitions: dict[str, Schema], without: Collection[str] = ()
) -> Schema:
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for field in kind.fields:
        if field.name in without:
            continue
        schema = _translated(field.type, definitions)
        properties[field.encode_name] = {**schema, "description": meaning(kind.cls, field.name)}
        if field.required and not _may_be_unset(field.type):
            required.append(field.encode_name)
        default = _default(field)
        if default is not msgspec.UNSET:
            properties[field.encode_name]["default"] = default
    body: Schema = {
        "description": "\n\n".join(paragraphs(kind.cls)),
        "type": "object",
        "properties": properties,
    }
    if required:
        body["required"] = required
    return body


def _default(field: inspect.Field) -> Any:
    """What a member means that is not there; ``UNSET`` where that says something of its own."""
    if field.default_factory is not msgspec.NODEFAULT:
        return _plain(field.default_factory())
    if field.default is msgspec.NODEFAULT or field.default is msgspec.UNSET:
        return msgspec.UNSET
    return _plain(field.default)


def _may_be_unset(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.UnionType) and any(map(_is_unset, kind.types))


def _is_unset(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.CustomType) and kind.cls is msgspec.UnsetType


def _translated(kind: inspect.Type, definitions: dict[str, Schema]) -> Schema:
    plain = _PLAIN.get(type(kind))
    if plain is not None:
        bounds = {name: getattr(kind, name, None) for name in _BOUNDS}
        return plain | {_BOUNDS[name]: each for name, each in bounds.items() if each is not None}
    if isinstance(kind, inspect.Metadata):
        return _translated(kind.type, definitions)
    if isinstance(kind, inspect.LiteralType):
        return _values(kind.values)
    if isinstance(kind, inspect.EnumType):
        values = _values([member.value for member in kind.cls])
        return {"anyOf": [values, {"type": "string"}]} if kind.cls in OPEN else values
    return _composed(kind, definitions)


def _values(values: Sequence[Any]) -> Schema:
    assert all(isinstance(each, str) for each in values)  # noqa: S101 (there are no others)
    return {"type": "string", "enum": sorted(values)}


def _composed(kind: inspect.Type, definitions: dict[str, Schema]) -> Schema:
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        items = _translated(kind.item_type, definitions)
        return {"type": "array", "items": items} if items else {"type": "array"}
    if isinstance(kind, inspect.DictType):
        values = _translated(kind.value_type, definitions)
        return {"type": "object", "additionalProperties": values} if values else {"type": "object"}
    if isinstance(kind, inspect.UnionType):
        options = [_translated(each, definitions) for each in kind.types if not _is_unset(each)]
        return options[0] if len(options) == 1 else {"anyOf": options}
    if isinstance(kind, inspect.StructType):
        name = kind.cls.__name__
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _struct(kind, definitions)
        return {"$ref": f"#/$defs/{name}"}
    if isinstance(kind, inspect.CustomType) and hasattr(kind.cls, "JSON_SCHEMA"):
        return dict(kind.cls.JSON_SCHEMA)
    raise TypeError(f"no JSON Schema is known for {kind}")


def _plain(value: Any) -> Any:
    """``value`` as it comes out of JSON."""
    return msgspec.json.decode(msgspec.json.encode(value))
