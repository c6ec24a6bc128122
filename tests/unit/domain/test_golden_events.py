"""Every event that was ever written can still be read: one golden file for each type.

A new event type needs a new file here. A file is never changed: a payload that has to look
different is a new type, with the next number at its end, and an upcaster reads the old one.
"""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from nbledger_domain import (
    dataset,
    events,
    execution,
    execution_action,
    histories,
    library,
    notebook,
    notices,
    webhook,
)

GOLDEN = Path(__file__).with_name("golden")
STREAM = UUID("aa0e8400-e29b-41d4-a716-446655440000")
AT = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)


def test_every_known_type_has_its_file() -> None:
    assert notebook.Notebook.Created.TYPE in events.EVENT_TYPES.classes
    assert execution.Execution.Requested.TYPE in events.EVENT_TYPES.classes
    assert dataset.Dataset.Created.TYPE in events.EVENT_TYPES.classes
    assert library.Library.Uploaded.TYPE in events.EVENT_TYPES.classes
    assert notices.RunNotice.Slow.TYPE in events.EVENT_TYPES.classes
    assert execution_action.ExecutionAction.Requested.TYPE in events.EVENT_TYPES.classes
    assert histories.HistoryRead.Read.TYPE in events.EVENT_TYPES.classes
    assert webhook.Webhook.Created.TYPE in events.EVENT_TYPES.classes
    assert {path.stem for path in GOLDEN.glob("*.json")} == events.EVENT_TYPES.readable()


@pytest.mark.guarantee("G7")
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_it_reads_and_writes_the_same(path: Path) -> None:
    data = path.read_bytes()
    event = events.decode(path.stem, data, stream_id=STREAM, version=1, occurred_at=AT)
    assert event.originator_id == STREAM
    assert event.timestamp == AT
    if path.stem == event.TYPE:
        assert msgspec.json.decode(events.encode(event)) == msgspec.json.decode(data)
