"""Recording who reads a history, before it is answered."""

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_domain.histories import HistoryKind, HistoryRead, Manner, ReadKey
from nbledger_infrastructure import clock
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.event_store import EventStore, RecordConflictError

REMEMBERED: Final = 10_000
"""So many records are remembered, so that whoever reads on in the hour waits for no append."""


class ReadRecorder:
    """Records reads of histories as events; one in each process.

    Of one principal, history and manner there is one record in an hour, whoever of several
    processes makes it; of an export between positions there is one for each.
    """

    def __init__(self, store: EventStore, *, now: Callable[[], datetime] = clock.now) -> None:
        self._store = store
        self._now = now
        self._recorded: dict[UUID, None] = {}

    async def record(
        self,
        caller: Caller,
        history: HistoryKind,
        subject_id: UUID | None,
        manner: Manner = "page",
        *,
        after: int | None = None,
        until: int | None = None,
    ) -> None:
        """Record that ``caller`` reads a history now; when this returns, the record is durable.

        ``after`` and ``until`` are of a whole export. One that goes on where another ended has
        none: it is of the hour, in which the next may begin anywhere.

        Raises ``StoreUnavailableError``: what cannot be recorded is not to be answered.
        """
        at = self._now()
        key = ReadKey(
            caller.tenant_id, caller.project_id, caller.actor, history, subject_id, manner
        )
        whole = until is not None
        stream_id = new_id() if whole else key.stream_id(at)
        if stream_id in self._recorded:
            return
        read = HistoryRead.record(
            stream_id,
            history=history,
            manner=manner,
            at=at,
            subject_id=subject_id,
            after=after,
            until=until,
        )
        stream = caller.stream(stream_id, stream_id)
        # Another process may have recorded it in this hour, or this one before it was started.
        with contextlib.suppress(RecordConflictError):
            await repository.append(
                self._store, stream, repository.collect(read), caller.metadata()
            )
        if not whole:
            self._remember(stream_id)

    def _remember(self, stream_id: UUID) -> None:
        if len(self._recorded) >= REMEMBERED:
            del self._recorded[next(iter(self._recorded))]
        self._recorded[stream_id] = None
