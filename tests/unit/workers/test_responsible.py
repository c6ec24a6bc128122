"""Whom a worker's events name as responsible."""

from uuid import uuid4

import pytest

from nbledger_application.claims import worker_metadata
from nbledger_infrastructure import clock
from nbledger_infrastructure.postgres.event_store.types import Metadata, RecordedEvent


@pytest.mark.parametrize(
    ("metadata", "responsible"),
    [
        (Metadata(actor="ann"), "ann"),
        (Metadata(actor="automation", on_behalf_of="ann"), "ann"),
        (Metadata(actor="scheduler", on_behalf_of="ann"), "ann"),
        (Metadata(actor="execution-actions", on_behalf_of="ann"), "ann"),
    ],
)
def test_a_workers_events_are_on_behalf_of_who_asked_for_the_run(
    metadata: Metadata, responsible: str
) -> None:
    told = worker_metadata(_requested(metadata), "w1")
    assert (told.actor, told.responsible) == ("worker:w1", responsible)


def _requested(metadata: Metadata) -> RecordedEvent:
    at = clock.now()
    return RecordedEvent(
        position=1,
        stream_id=uuid4(),
        version=1,
        event_id=uuid4(),
        type="execution.requested.v1",
        subject_id=uuid4(),
        tenant_id=uuid4(),
        project_id=uuid4(),
        data=b"{}",
        metadata=metadata,
        occurred_at=at,
        recorded_at=at,
        digest=b"",
        chain=b"",
        stored_type="execution.requested.v1",
    )
