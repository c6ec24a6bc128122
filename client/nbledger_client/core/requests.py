"""A request as the API has it, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec

from nbledger_client.answers import Answered

T = TypeVar("T")

Version = str | Answered
"""An entity tag, or what was read and has one."""


class Repeat(Enum):
    """What may be done where it is not known whether the server has done it."""

    FREELY = "done twice is as done once"
    BY_KEY = "the server knows it again by its key"
    NEVER = "it might be done twice, or be refused for having been done"


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a form: ``source`` is its content, or the path where it is read from."""

    file_name: str
    source: bytes | Path
    media_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Form:
    """A form with files."""

    files: tuple[Part, ...]
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """A body as it is: bytes, or a file that is streamed."""

    source: bytes | Path
    media_type: str = "application/octet-stream"


Body = Form | Content | None


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent."""

    method: str
    url: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: Body
    patience: float
    """Seconds that an answer may take to begin, or a stream be silent."""
    foreign: bool = False
    """Whether it goes to another address than the service's, so that no token goes with it."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request of the API, and what its answer is read as.

    Attributes:
        path: below the project, or from the root where it begins with a slash; absolute of links.
        answer: type of the answer; `bytes` is the body as it is.
        wait: seconds that the server may wait before it answers.
        forgiving: whether a repetition that finds nothing means that it is done.
        own_writes: whether the answer is to show what this client has written.
    """

    method: str
    path: str
    answer: type[T]
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Body = None
    repeat: Repeat = Repeat.FREELY
    wait: int = 0
    forgiving: bool = False
    own_writes: bool = False


def path_of(*segments: object) -> str:
    """An address below the project, each segment quoted.

    >>> path_of("notebook", "1", "file", "a b")
    'notebook/1/file/a%20b'
    """
    return "/".join(quote(str(segment), safe="") for segment in segments)


def file_path(*segments: object, path: str) -> str:
    """An address that ends with a path of a file, whose slashes stay."""
    return f"{path_of(*segments)}/{quote(path)}"


def json_body(value: object) -> Content:
    """A JSON body."""
    return Content(msgspec.json.encode(value), "application/json")


def conditions(
    if_match: Version | None = None, if_none_match: Version | None = None
) -> dict[str, str]:
    """Headers that let a change happen only to the version that is meant.

    >>> conditions(if_match='"1.0.0"')
    {'If-Match': '"1.0.0"'}
    """
    given = {"If-Match": if_match, "If-None-Match": if_none_match}
    return {name: _tag(version) for name, version in given.items() if version is not None}


def _tag(version: Version) -> str:
    if isinstance(version, str):
        return version if version == "*" or '"' in version else f'"{version}"'
    if version.etag is None:
        raise ValueError(f"What was read has no version: {type(version).__name__}")
    return version.etag


def query_of(query: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The parameters that have a value.

    >>> query_of({"page": 2, "force": True, "status": None, "type": ["a", "b"]})
    [('page', '2'), ('force', 'true'), ('type', 'a,b')]
    """
    return [(name, _text(value)) for name, value in query.items() if value is not None]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


Id = str | UUID
"""An id, as text or as what it is."""
