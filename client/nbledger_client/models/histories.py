"""Types of the API: histories. Made by `make client-models`."""

from typing import Any

import msgspec

from nbledger_client.answers import Answered


class Erasure(msgspec.Struct, rename="camel", kw_only=True):
    """That the data of an event is erased.

    `at` is when, `actor` who asked for it: by name while there is one; `position` is that of the
    event by which it was asked for. All are null where they cannot be told.
    """

    at: str | None
    actor: str | None
    actor_id: str | None
    position: int | None


class EventCause(msgspec.Struct, rename="camel", kw_only=True):
    """What an event follows from.

    `kind` is `request`, `event` or `service`, or the cause of a run as its request tells it, such
    as `schedule`. `ids` has what there is to follow it by: `requestId`; `eventId`, `eventType`,
    `streamId` and `position` of the event before; and all that a run tells.
    """

    kind: str
    ids: dict[str, Any]


class Shortened(msgspec.Struct, rename="camel", kw_only=True):
    """How much a change does not show.

    `offset` is the number of the first character shown of a text, from 0; `before_bytes` and
    `after_bytes` are the sizes of the whole values as JSON in UTF-8.
    """

    offset: int = 0
    before_bytes: int | None = None
    after_bytes: int | None = None


class FieldChange(msgspec.Struct, rename="camel", kw_only=True):
    """One field that is not as it was.

    `field` is a JSON pointer into the state, in which an item of a list stands under the value of
    its first member. `before` is absent of what was added, `after` of what was removed. Where a
    list is `reordered` both name its items in order; where it is not, what was added is at its
    end. `shortened` is there where a value is too large to be shown: of a text a part is shown, of
    anything else null.
    """

    field: str
    kind: str
    before: Any | None = None
    after: Any | None = None
    shortened: Shortened | None = None


class ChangedEntry(msgspec.Struct, rename="camel", kw_only=True):
    """One event, and what it has changed.

    `changes` is null where that cannot be told: data is erased, or of a form unknown here.
    `changes_omitted` counts those that are not among them. `changes_unavailable` is there where
    they could be told, but more events come before it than are folded for one page.
    """

    position: int
    type: str
    version: int
    stream_id: str
    event_id: str
    subject_id: str
    project_id: str
    actor: str
    actor_id: str
    on_behalf_of: str | None
    time: str
    recorded_at: str
    request_id: str | None
    correlation_id: str | None
    causation_id: str | None
    cause: EventCause
    data: Any
    erased: bool
    erasure: Erasure | None
    digest: str
    chain: str
    formula: int
    salt: str | None
    changes: list[FieldChange] | None
    changes_omitted: int | None = None
    changes_unavailable: str | None = None


class ConsistencyDocument(Answered, rename="camel", kw_only=True):
    """That the tree of `to` entries begins with that of the first `from` ones.

    `hashes` are the proof of RFC 6962 in base64, empty where `from` is 0 or `to`. `checkpoint` is
    the signed note of `to` entries; null where none was signed for just so many.
    """

    from_: int
    to: int
    hashes: list[str]
    checkpoint: str | None


class HistoryEntry(msgspec.Struct, rename="camel", kw_only=True):
    """One event. `data` is exactly what was recorded, null once it has been erased.

    `time` is when it was decided, `recorded_at` when it was stored. `actor_id` is who caused it as
    the event tells, `actor` the name of that one as long as there is one; `on_behalf_of` is who
    asked for it where the actor is a part of the service. `digest`, `salt` and `chain` are
    hexadecimal: `digest` is the SHA-256 of the bytes of the salt with those of the data behind
    them. The salt is null once it has been erased, and where `formula` is 1: such events are from
    before digests had salt.
    """

    position: int
    type: str
    version: int
    stream_id: str
    event_id: str
    subject_id: str
    project_id: str
    actor: str
    actor_id: str
    on_behalf_of: str | None
    time: str
    recorded_at: str
    request_id: str | None
    correlation_id: str | None
    causation_id: str | None
    cause: EventCause
    data: Any
    erased: bool
    erasure: Erasure | None
    digest: str
    chain: str
    formula: int
    salt: str | None


class EventPage(Answered, rename="camel", kw_only=True):
    """Events in order. All that were asked for up to `position` are among them or before them.

    Where there are more, `next` is the `after` to ask with; later ask after `position`.
    """

    events: list[HistoryEntry]
    position: int
    next: int | None


class History(Answered, rename="camel", kw_only=True):
    """Events in order; where there are more, `next` is what to ask with.

    It is the `after` of the next page, or the `before` of it with the newest first.
    """

    events: list[ChangedEntry]
    next: int | None


class InclusionDocument(Answered, rename="camel", kw_only=True):
    """That an entry is number `number` of the log of the checkpoint.

    `entry` is the text that is hashed, `hashes` are the proof of RFC 6962 from the leaf up, in
    base64, and `checkpoint` is a signed note.
    """

    number: int
    entry: str
    hashes: list[str]
    checkpoint: str


class LogLinks(msgspec.Struct, rename="camel", kw_only=True):
    """Where the parts of a log are."""

    checkpoint: str
    tiles: str
    entries: str
    inclusion: str
    consistency: str
    timestamps: str
    policy: str


class WitnessDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A witness: how many entries of the log it has cosigned last, and when it says it did.

    `problem` is why it did not cosign when it was asked last; null where it did.
    """

    name: str
    verifier_key: str
    size: int
    cosigned_at: str | None
    problem: str | None


class LogDocument(Answered, rename="camel", kw_only=True):
    """A tenant's log: its origin and keys (signed-note vkeys, the one in use first).

    `size` counts the entries of the checkpoint that is served, which was signed at `checkpointAt`;
    that of a log at rest is signed again now and then. `signedSize` counts those of the newest
    one, which may wait for witnesses. Cosignatures are to be no older than `maximumAgeSeconds`
    (null: no limit).
    """

    origin: str
    verifier_keys: list[str]
    size: int
    checkpoint_at: str | None
    signed_size: int
    maximum_age_seconds: int | None
    witnesses: list[WitnessDocument]
    links: LogLinks


class ReadRecord(msgspec.Struct, rename="camel", kw_only=True):
    """That a principal has read a history.

    `history` says of what, `subjectId` of which one; null for all of a project or tenant. `manner`
    is how: in pages, as a stream, as an export, or as a state of the past. `time` is when it
    began; more of the same may have been read until the end of the `hour`. A whole export has a
    record of its own: `after` and `until` are the positions that it lies between. They are null
    otherwise, also of exports that go on from a position. `projectId` is null where all of the
    tenant were read.
    """

    position: int
    time: str
    actor: str
    actor_id: str
    request_id: str | None
    project_id: str | None
    history: str
    subject_id: str | None
    manner: str
    hour: str
    after: int | None
    until: int | None


class ReadRecords(Answered, rename="camel", kw_only=True):
    """Records in order; where there are more, `next` is what to ask with, as in a history."""

    reads: list[ReadRecord]
    next: int | None


class TimestampDocument(msgspec.Struct, rename="camel", kw_only=True):
    """That the text of a checkpoint was there at a time, says an authority (RFC 3161).

    `checkpoint` is a signed note of `size` entries; what is stamped is its text, which is all
    above the empty line. `response` is the authority's answer in base64 (TimeStampResp in DER).
    """

    size: int
    at: str
    checkpoint: str
    response: str


class TimestampsDocument(Answered, rename="camel", kw_only=True):
    """Timestamps of a log's checkpoints, the newest first."""

    items: list[TimestampDocument]
