"""Entries are frozen: what was signed once is made again, byte for byte, by every later version."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec

from nbledger_domain.transparency.entries import LogEntry, moment

ENTRY = LogEntry(
    number=2,
    position=42,
    id=UUID(int=1),
    stream=UUID(int=2),
    version=3,
    type="notebook.renamed.v1",
    subject=UUID(int=3),
    tenant=UUID(int=4),
    project=UUID(int=5),
    occurred_at="2024-01-15T10:30:00.000000Z",
    recorded_at="2024-01-15T10:30:00.004200Z",
    data="0a" * 32,
    metadata="0b" * 32,
    chain="0c" * 32,
)

BYTES = (
    '{"chain":"' + "0c" * 32 + '","data":"' + "0a" * 32 + '",'
    '"id":"00000000-0000-0000-0000-000000000001","metadata":"' + "0b" * 32 + '",'
    '"number":2,"occurredAt":"2024-01-15T10:30:00.000000Z","position":42,'
    '"project":"00000000-0000-0000-0000-000000000005",'
    '"recordedAt":"2024-01-15T10:30:00.004200Z",'
    '"stream":"00000000-0000-0000-0000-000000000002",'
    '"subject":"00000000-0000-0000-0000-000000000003",'
    '"tenant":"00000000-0000-0000-0000-000000000004",'
    '"type":"notebook.renamed.v1","v":1,"version":3}'
).encode()


def test_an_entry_is_these_bytes_for_ever() -> None:
    assert ENTRY.encoded() == BYTES
    without = msgspec.structs.replace(ENTRY, data=None, metadata=None, chain=None).encoded()
    told = json.loads(without)
    assert (told["data"], told["metadata"], told["chain"]) == (None, None, None)
    assert without == json.dumps(told, separators=(",", ":"), sort_keys=True).encode()


def test_a_moment_has_one_form() -> None:
    at = datetime(2024, 1, 15, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    assert moment(at) == moment(at.astimezone(UTC)) == "2024-01-15T10:30:00.000000Z"
    assert moment(at + timedelta(microseconds=7)) == "2024-01-15T10:30:00.000007Z"
