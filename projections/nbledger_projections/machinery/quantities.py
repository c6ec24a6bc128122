"""Quantities: stored as numbers, and put in words when somebody reads them."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec


class Quantity:
    """A member of a document that people read: ``value`` is what is stored of it.

    No ABC: a document may have thousands, and what an instance of one is takes ten times as long.
    """

    __slots__ = ("value",)

    JSON_SCHEMA: ClassVar[Mapping[str, str]] = {"type": "string"}
    """Of what the API answers."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"

    def words(self) -> str:
        """The quantity as the API answers it."""
        raise NotImplementedError


def _stored(value: Any) -> Any:
    if isinstance(value, Quantity):
        return value.value
    raise NotImplementedError(type(value))


def _in_words(value: Any) -> Any:
    if isinstance(value, Quantity):
        return value.words()
    raise NotImplementedError(type(value))


def _restored(kind: type, value: Any) -> Any:
    if issubclass(kind, Quantity):
        return kind(value)
    raise NotImplementedError(kind)


encode = msgspec.json.Encoder(enc_hook=_stored).encode
"""JSON to store, with the values of quantities."""

encode_in_words = msgspec.json.Encoder(enc_hook=_in_words).encode
"""JSON to answer, with quantities in words."""


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """For what :data:`encode` has stored of a ``kind``."""
    return msgspec.json.Decoder(kind, dec_hook=_restored)
