"""Entries of a tenant's log: what is published of each event, which is nothing of its content.

An entry is the JSON of the event's envelope in the canonical form of RFC 8785. Data and metadata
are there as digests with salt, so that an entry confirms no guess once the salt is erased. Entries
are frozen for ever: what changes is told by another ``v``.
"""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec

VERSION: Final = 1

_encoder = msgspec.json.Encoder(order="sorted")


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One entry.

    ``number`` counts the entries of the log from 0, ``version`` the events of the stream from 1.
    Times are UTC with microseconds. Digests and ``chain`` are SHA-256 in lower-case hexadecimal;
    they are None for events recorded without salt.
    """

    v: int = VERSION
    number: int
    position: int
    id: UUID
    stream: UUID
    version: int
    type: str
    subject: UUID
    tenant: UUID
    project: UUID
    occurred_at: str
    recorded_at: str
    data: str | None
    metadata: str | None
    chain: str | None

    def encoded(self) -> bytes:
        """The entry as it is hashed and served."""
        return _encoder.encode(self)


def moment(at: datetime) -> str:
    """A time as entries have it: one form for each moment."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
