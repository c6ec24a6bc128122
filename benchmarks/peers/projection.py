"""The eventsourcing library's ProjectionRunner, writing the rows that our projections write.

The view follows the library's documentation: one transaction for each event, with the tracking
record and the rows in it. Choices in the peer's favour:
- what to write for each event is worked out beforehand, so that the peer folds nothing;
- one runner writes the rows of all projections, so that the events are read and tracked once;
- statements are prepared, the connection pools stay open within a round, and the events are in
  the store before the clock starts.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner

from benchmarks.peers.protocol import serve


@dataclass(frozen=True)
class Happened(DomainEvent):
    """An event with its type and its data, as JSON."""

    type: str
    data: str


class Events(Application[UUID]):
    """The application whose events are projected."""

    name = "events"


class Rows(PostgresTrackingRecorder):
    """The read models: rows and tracking in one transaction."""

    def write(self, statements: list[tuple[str, list[Any]]], tracking: Tracking) -> None:
        """Write what one event calls for."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            for statement, arguments in statements:
                cursor.execute(statement, arguments, prepare=True)
        if tracking.notification_id == _state["last"]:
            # The runner's own wait() polls, up to 0.8 s late.
            _state["end"] = time.perf_counter()


class AllProjections(Projection[Rows]):
    """Every read model of the benchmark."""

    name = "views"

    @singledispatchmethod
    def process_event(self, domain_event: object, tracking: Tracking) -> None:
        """Refuse an event of an unknown class."""
        raise NotImplementedError

    @process_event.register
    def _(self, domain_event: Happened, tracking: Tracking) -> None:
        key = (str(domain_event.originator_id), domain_event.originator_version)
        self.view.write(_writes[key], tracking)


_writes: dict[tuple[str, int], list[tuple[str, list[Any]]]] = {}
_state: dict[str, Any] = {}


def start(env: dict[str, str], events: str, tables: list[str]) -> int:
    """Store the events of a file of JSON lines, and keep what each is to write.

    A line is [stream id, version, type, time, data, [[statement, [argument, …]], …]]; statements
    have PostgreSQL's `$1` placeholders.
    """
    _state["env"] = env | {"POSTGRES_ENABLE_DB_FUNCTIONS": "yes"}
    _state["tables"] = tables
    app: Events = Events(_state["env"])
    stored = []
    for line in Path(events).read_text(encoding="utf-8").splitlines():
        stream, version, type_name, at, data, writes = json.loads(line)
        event = Happened(
            originator_id=UUID(stream),
            originator_version=version,
            timestamp=datetime.fromisoformat(at),
            type=type_name,
            data=data,
        )
        stored.append(app.mapper.to_stored_event(event))
        _writes[stream, version] = [(_placeholders(sql), args) for sql, args in writes]
    for begin in range(0, len(stored), 500):
        app.recorder.insert_events(stored[begin : begin + 500])
    _state["last"] = app.recorder.max_notification_id()
    app.close()
    return len(stored)


def measure() -> dict[str, float]:
    """Events per second of a rebuild: from empty tables to the last event."""
    with Events(_state["env"]) as app:
        datastore = cast("PostgresApplicationRecorder", app.recorder).datastore
        with datastore.transaction(commit=True) as cursor:
            cursor.execute(f"TRUNCATE {', '.join(_state['tables'])}")
            cursor.execute("DROP TABLE IF EXISTS views_tracking")
    begin = time.perf_counter()
    with ProjectionRunner(
        application_class=Events,
        projection_class=AllProjections,
        view_class=Rows,
        env=_state["env"],
    ) as runner:
        runner.wait(_state["last"], timeout=300)
        elapsed = _state["end"] - begin
        runner.view.datastore.close()
    return {"perSecond": len(_writes) / elapsed, "count": len(_writes)}


def _placeholders(sql: str) -> str:
    """PostgreSQL's numbered placeholders, which come in order, as psycopg's."""
    numbers = re.findall(r"\$(\d+)", sql)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)], sql
    return re.sub(r"\$\d+", "%s", sql.replace("%", "%%"))


if __name__ == "__main__":
    serve({"start": start, "measure": measure})
