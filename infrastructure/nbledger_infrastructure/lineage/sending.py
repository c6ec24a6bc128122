"""What sends documents to the receiver, by HTTP or by Kafka."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from nbledger_domain.lineage.facts import Document

MOST_BYTES: Final = 900_000
"""Of one document: what every broker takes without being told."""

_encode = msgspec.json.Encoder().encode


class ReceiverAwayError(Exception):
    """The receiver cannot be reached, or does not take documents now."""


class Sender(Protocol):
    """Sends documents; those with one key in order."""

    async def send(self, told: Sequence[Document]) -> None:
        """Return once the receiver has all of them, or has refused some for good.

        Raises :class:`ReceiverAwayError`; then any of them may have been taken.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def encoded(told: Document) -> bytes:
    """A document as JSON: without the columns of its datasets where it is too large with them."""
    body = _encode(told.document)
    return body if len(body) <= MOST_BYTES else _encode(_slim(told.document))


def _slim(document: dict[str, Any]) -> dict[str, Any]:
    slim = dict(document)
    for place in ("inputs", "outputs"):
        slim[place] = [_without_schema(each) for each in slim.get(place, ())]
    if "dataset" in slim:
        return {**document, "dataset": _without_schema(slim["dataset"])}
    return slim


def _without_schema(dataset: dict[str, Any]) -> dict[str, Any]:
    facets = {name: each for name, each in dataset["facets"].items() if name != "schema"}
    return {**dataset, "facets": facets}
