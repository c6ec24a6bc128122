"""All events of the project or the tenant, and who has read histories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from nbledger_client.core import downloading
from nbledger_client.core.conversation import read_as
from nbledger_client.core.repeating import Retries
from nbledger_client.core.requests import Call, Id, Repeat, json_body, path_of
from nbledger_client.core.steps import Item, Items, Steps
from nbledger_client.core.streams import followed
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, listing, procedure, verb
from nbledger_client.errors import ConfigurationError
from nbledger_client.models.event_replays import (
    ReplayDocument,
    ReplayList,
    ReplayRequest,
    ReplayRequestFields,
)
from nbledger_client.models.histories import (
    EventPage,
    HistoryEntry,
    ReadRecord,
    ReadRecords,
    Status,
)
from nbledger_client.verbs.shared import HistoryFields, Time, history_query, next_page


class EventFields(TypedDict, total=False):
    """Which events are told, and of what.

    Attributes:
        after: only events after this position.
        type: only events of these types, or whose types begin so.
        actor: only what these have done.
        stream: only events of these streams.
        tag: only events of runs with these tags.
        tenant: those of all the tenant's projects, instead of the client's project.
    """

    after: int
    type: str | Sequence[str]
    actor: str | Sequence[str]
    stream: str | Sequence[str]
    tag: str | Sequence[str]
    tenant: bool


class EventVerbs(Group):
    """Events of the project, or of the tenant."""

    @listing("readEvents", "readTenantEvents")
    def read(
        self,
        *,
        until: int | None = None,
        from_: Time | None = None,
        to: Time | None = None,
        page_size: int = 1000,
        **asked: Unpack[EventFields],
    ) -> Items[HistoryEntry]:
        """Read the events that there are, oldest first, up to a position or a time.

        >>> next(client.events.read(type="notebook.created")).type
        'notebook.created.v1'
        """
        more = {"until": until, "from": from_, "to": to, "limit": page_size}
        path, query = self._feed(asked, **more)
        while True:
            found = yield from self._talk.ask(Call("GET", path, EventPage, query))
            for each in found.events:
                yield Item(each)
            if found.next is None:
                return
            query["after"] = found.next

    @listing("readEvents", "readTenantEvents")
    def follow(self, **asked: Unpack[EventFields]) -> Items[HistoryEntry]:
        """Follow the events as they happen, for ever, across lost connections.

        >>> for event in client.events.follow(type="notebook.created"):
        ...     break
        >>> event.type
        'notebook.created.v1'
        """
        path, query = self._feed(asked)
        after = query.pop("after", 0)
        call = Call("GET", path, bytes, query)
        return followed(self._talk, call, _entry, after=after)

    @procedure("readEvents", "readTenantEvents")
    def export(
        self, path: str | Path, *, until: int | None = None, **asked: Unpack[EventFields]
    ) -> Steps[Path]:
        """Save the events as JSON Lines; the last line says whether they are all there.

        >>> client.events.export("events.jsonl").read_text().count("notebook.created") > 0
        True
        """
        address, query = self._feed(asked, until=until, format="jsonl")
        call = Call("GET", address, bytes, query)
        return downloading.saved(self._talk, call, Path(path), Retries())

    @listing("listHistoryReads", "listTenantHistoryReads")
    def reads(
        self,
        *,
        subject_id: str | None = None,
        tenant: bool = False,
        **asked: Unpack[HistoryFields],
    ) -> Items[ReadRecord]:
        """Read who has read which history.

        >>> _ = list(client.notebooks.history(notebook))
        >>> len(list(client.events.reads())) > 0
        True
        """
        path = self._tenant("history-reads") if tenant else "history-reads"
        query = history_query(asked, subjectId=subject_id)
        while True:
            found = yield from self._talk.ask(Call("GET", path, ReadRecords, query))
            for each in found.reads:
                yield Item(each)
            if found.next is None:
                return
            query = next_page(query, found.next)

    @verb("replayEvents")
    def replay(self, **asked: Unpack[ReplayRequestFields]) -> Call[ReplayDocument]:
        """Have events of the project published again, to a topic of their own.

        A request whose answer was lost is not sent again by itself: it might make two.

        >>> client.events.replay(topic="nbledger.replay.events-again").topic
        'nbledger.replay.events-again'
        """
        body = json_body(ReplayRequest(**asked))
        return Call("POST", "event-replay", ReplayDocument, body=body, repeat=Repeat.NEVER)

    @listing("listEventReplays")
    def replays(self, *, page_size: int = 100) -> Items[ReplayDocument]:
        """List the project's replays, newest first.

        >>> made = client.events.replay(topic="nbledger.replay.events-once-more")
        >>> made.replay_id in [each.replay_id for each in client.events.replays()]
        True
        """
        query = {"pageSize": page_size}
        return self._pages("event-replay", ReplayList, lambda found: found.replays, query)

    @verb("getEventReplay")
    def get_replay(self, replay_id: Id) -> Call[ReplayDocument]:
        """Read how far a replay is.

        >>> made = client.events.replay(topic="nbledger.replay.events-later")
        >>> client.events.get_replay(made.replay_id).problem is None
        True
        """
        return Call("GET", path_of("event-replay", replay_id), ReplayDocument)

    @verb("cancelEventReplay")
    def cancel_replay(self, replay_id: Id) -> Call[ReplayDocument]:
        """Have a replay published no further.

        >>> from nbledger_client.errors import ReplayEndedError
        >>> made = client.events.replay(topic="nbledger.replay.events-never")
        >>> try:
        ...     state = client.events.cancel_replay(made.replay_id).state
        ... except ReplayEndedError:
        ...     state = "cancelled"
        >>> state
        'cancelled'
        """
        path = path_of("event-replay", replay_id, "cancel")
        return Call("POST", path, ReplayDocument, repeat=Repeat.NEVER)

    @verb("getConsumers")
    def consumers(self) -> Call[Status]:
        """Read how far projections and others that follow the events are.

        >>> "notebook_list" in [each.name for each in client.events.consumers().consumers]
        True
        """
        return Call("GET", self._tenant("consumers"), Status)

    def _feed(self, asked: EventFields, **more: Any) -> tuple[str, dict[str, Any]]:
        unknown = asked.keys() - EventFields.__annotations__.keys()
        if unknown:
            raise TypeError(f"Unknown: {', '.join(sorted(unknown))}.")
        query: dict[str, Any] = {**asked, **more}
        tenant = query.pop("tenant", False)
        return self._tenant("events") if tenant else "events", query

    def _tenant(self, of: str) -> str:
        tenant_id = self._talk.connection.tenant_id
        if not tenant_id:
            raise ConfigurationError("It is not said which tenant: set NBLEDGER_TENANT.")
        return f"/audit/{of}/{tenant_id}"


def _entry(data: bytes) -> HistoryEntry:
    return read_as(HistoryEntry, data)


class Events(EventVerbs, BlockingGroup):
    """Events of the project, or of the tenant."""


class AsyncEvents(EventVerbs, AwaitingGroup):
    """Events of the project, or of the tenant, awaited."""
