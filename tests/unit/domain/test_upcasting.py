"""Events that an earlier version of the software wrote are read as what they are now."""

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pytest

from nbledger_domain.events import (
    EVENT_TYPES,
    DomainEvent,
    EventTypes,
    UnknownEventTypeError,
    decode,
    encode,
)
from nbledger_domain.execution import Execution, Phase
from nbledger_domain.execution.state import ExecutionState
from nbledger_infrastructure.kafka.cloudevents import event_headers
from nbledger_infrastructure.postgres.event_store.types import recorded_event

GOLDEN = Path(__file__).with_name("golden")
STREAM = UUID("aa0e8400-e29b-41d4-a716-446655440000")
AT = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)


class Worker(msgspec.Struct, frozen=True):
    """Who claims, as a later version could tell it."""

    name: str
    pool: str


class ClaimedByWorker(Execution.Event, frozen=True, kw_only=True):
    """``execution.claimed.v2``: more is told of the worker than its id."""

    TYPE: ClassVar[str] = "execution.claimed.v2"
    epoch: int
    worker: Worker

    def apply(self, aggregate: ExecutionState) -> None:
        aggregate.epoch = self.epoch
        aggregate.worker_id = self.worker.name
        aggregate.phase = Phase.STARTING


class ClaimedInPlace(ClaimedByWorker, frozen=True, kw_only=True):
    """``execution.claimed.v3``: and where it is."""

    TYPE: ClassVar[str] = "execution.claimed.v3"
    place: str


def with_worker(data: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": data["epoch"], "worker": {"name": data["workerId"], "pool": "default"}}


def with_place(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "place": f"{data['worker']['pool']}/{data['worker']['name']}"}


def later_types(*classes: type[DomainEvent]) -> EventTypes:
    """What the next version of the software would know, which has no class for v1."""
    types = EventTypes()
    types.classes = copy.copy(EVENT_TYPES.classes)
    del types.classes["execution.claimed.v1"]
    for event_class in classes:
        types.classes[event_class.TYPE] = (event_class, None)
    types.add_upcaster("execution.claimed.v1", with_worker)
    return types


def read(type_name: str, data: bytes, types: EventTypes, version: int = 1) -> DomainEvent:
    return decode(type_name, data, stream_id=STREAM, version=version, occurred_at=AT, types=types)


def golden(type_name: str) -> bytes:
    return (GOLDEN / f"{type_name}.json").read_bytes()


def test_a_stored_event_is_read_as_its_next_version() -> None:
    types = later_types(ClaimedByWorker)
    event = read("execution.claimed.v1", golden("execution.claimed.v1"), types)
    assert isinstance(event, ClaimedByWorker)
    written = msgspec.json.decode(golden("execution.claimed.v1"))
    assert event.epoch == written["epoch"]
    assert event.worker == Worker(written["workerId"], "default")
    assert (event.originator_id, event.originator_version, event.timestamp) == (STREAM, 1, AT)
    # The newer version is read as it stands.
    assert read("execution.claimed.v2", encode(event), types) == event


def test_an_aggregate_is_the_same_by_its_old_events() -> None:
    requested = golden("execution.requested.v1")
    claimed = golden("execution.claimed.v1")
    now: Any = read("execution.requested.v1", requested, EVENT_TYPES).mutate(None)
    now = read("execution.claimed.v1", claimed, EVENT_TYPES, version=2).mutate(now)
    types = later_types(ClaimedByWorker)
    later: Any = read("execution.requested.v1", requested, types).mutate(None)
    later = read("execution.claimed.v1", claimed, types, version=2).mutate(later)
    assert later == now
    assert later.phase is Phase.STARTING


def test_upcasters_form_a_chain() -> None:
    types = later_types(ClaimedInPlace)
    types.add_upcaster("execution.claimed.v2", with_place)
    written = msgspec.json.decode(golden("execution.claimed.v1"))
    event = read("execution.claimed.v1", golden("execution.claimed.v1"), types)
    assert isinstance(event, ClaimedInPlace)
    assert event.place == f"default/{written['workerId']}"
    middle = msgspec.json.encode(with_worker(written))
    assert read("execution.claimed.v2", middle, types) == event
    assert types.current("execution.claimed.v1") == "execution.claimed.v3"
    assert types.readable() == {*types.classes, "execution.claimed.v1", "execution.claimed.v2"}
    assert types.current("execution.started.v1") == "execution.started.v1"
    assert types.stored_names("execution.claimed.v3") == [
        "execution.claimed.v3",
        "execution.claimed.v1",
        "execution.claimed.v2",
    ]


def test_an_unknown_type_still_fails_by_its_own_name() -> None:
    with pytest.raises(UnknownEventTypeError, match=r"^execution\.claimed\.v2$"):
        read("execution.claimed.v2", b"{}", EVENT_TYPES)
    # An upcaster whose class is missing: the stored name is told, not the one it leads to.
    with pytest.raises(UnknownEventTypeError, match=r"^execution\.claimed\.v1$"):
        read("execution.claimed.v1", golden("execution.claimed.v1"), later_types())


def test_a_payload_that_the_upcaster_made_wrong_is_refused() -> None:
    types = later_types(ClaimedByWorker)
    with pytest.raises(msgspec.ValidationError, match="epoch"):
        read("execution.claimed.v1", b'{"epoch": "one", "workerId": "w"}', types)


@pytest.mark.parametrize("old", ["execution.claimed.v1", "execution.started.v1", "claimed"])
def test_a_type_is_read_in_one_way_only(old: str) -> None:
    with pytest.raises(ValueError, match="cannot be upcast"):
        later_types(ClaimedByWorker).add_upcaster(old, with_worker)


def test_the_store_tells_the_newest_type_and_publishes_what_was_written() -> None:
    row = (
        *(7, STREAM, 2, STREAM, "execution.claimed.v1", STREAM, STREAM, STREAM),
        *(golden("execution.claimed.v1").decode(), b'{"actor": "w"}', AT, AT, b"", b""),
    )
    recorded = recorded_event(row, later_types(ClaimedByWorker))
    assert recorded.type == "execution.claimed.v2"
    assert recorded.stored_type == "execution.claimed.v1"
    assert recorded.data == golden("execution.claimed.v1")
    assert ("ce_type", b"nbledger.execution.claimed.v1") in event_headers(recorded, address="")
