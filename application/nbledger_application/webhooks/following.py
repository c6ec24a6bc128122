"""From events to what is to be sent: webhooks as they are, and the deliveries that each gets."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from nbledger_application.database_clock import Clock
from nbledger_application.following import Interests
from nbledger_application.webhooks import redelivering, rows, secrets
from nbledger_application.webhooks.rows import Subscriber, Wished
from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.transparency.erasures import DELETIONS
from nbledger_domain.webhook import EventSelection, Webhook
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import RecordedEvent

NAME: Final = "webhooks"
"""Under this name the manager keeps its position."""

_OWN: Final = frozenset(name for name in EVENT_TYPES.classes if name.startswith("webhook."))

# An answer may repeat what was sent.
_ERASE_ANSWERS: Final = """
UPDATE webhook_attempt AS a SET answer_body = NULL, answer_headers = NULL
FROM webhook_delivery AS d
WHERE d.subject_id = ANY($1) AND a.webhook_id = d.webhook_id AND a.position = d.position
"""


def interests() -> Interests:
    """All events: those of webhooks with their data, the others without."""
    return Interests(
        read=sorted(_OWN), noted=sorted(EVENT_TYPES.classes.keys() - _OWN), marked=(), mark=""
    )


class Subscriptions:
    """What becomes of events, as :class:`Following` hands them over.

    ``moved`` is called with the webhooks for which there is something new to send, and those that
    are others now or gone; it may be called before that is committed.
    """

    def __init__(self, now: Clock, moved: Callable[[set[UUID], set[UUID]], None]) -> None:
        self._now = now
        self._moved = moved

    async def prepare(self, batch: Sequence[RecordedEvent]) -> None:
        """Nothing has to be done before the transaction."""

    async def fold(self, connection: PooledConnection, batch: Sequence[RecordedEvent]) -> None:
        """Write which webhooks there are after these events, and which of the events each gets."""
        known = await rows.subscribers_of(connection, {each.project_id for each in batch})
        if known or any(each.type in _OWN for each in batch):
            folded = _Folded(known)
            for recorded in batch:
                folded.take(recorded)
            await self._write(connection, folded)
        erased = [each.subject_id for each in batch if each.stored_type in DELETIONS]
        if erased:
            await connection.execute(_ERASE_ANSWERS, erased)

    async def _write(self, connection: PooledConnection, folded: "_Folded") -> None:
        at = await self._now(connection)
        wanting = {each.webhook_id for each in folded.wished}
        await rows.lock(connection, wanting | folded.changed | folded.gone)
        await rows.save(
            connection, [known for each in folded.changed if (known := folded.known.get(each))]
        )
        wished = await wanted_by_tags(connection, folded.known, folded.wished)
        if wished:
            await rows.wish(connection, wished, at)
        for webhook_id in folded.unordered:
            await rows.release_all(connection, webhook_id, at)
        for recorded, event in folded.asked:
            await redelivering.record(connection, recorded, event, at)
        if folded.gone:
            await rows.forget(connection, list(folded.gone))
            await secrets.forget(connection, list(folded.gone))
        self._moved(
            {each.webhook_id for each in wished} | folded.redelivered, folded.changed | folded.gone
        )


class _Folded:
    """What a batch of events makes of the webhooks of its projects."""

    def __init__(self, known: dict[UUID, Subscriber]) -> None:
        self.known = known
        self.by_project: dict[UUID, dict[UUID, Subscriber]] = {}
        for each in known.values():
            self._place(each)
        self.changed: set[UUID] = set()
        self.unordered: set[UUID] = set()
        self.gone: set[UUID] = set()
        self.redelivered: set[UUID] = set()
        self.asked: list[tuple[RecordedEvent, Webhook.RedeliveryRequested]] = []
        self.wished: list[Wished] = []

    def take(self, recorded: RecordedEvent) -> None:
        """Take the next event: a webhook's own changes it, any other may be sent."""
        subscribers = self.by_project.get(recorded.project_id)
        if subscribers:
            self.wished.extend(wished_of(subscribers.values(), recorded))
        if recorded.type not in _OWN:
            return
        if recorded.type == Webhook.Deleted.TYPE:
            known = self.known.pop(recorded.stream_id, None)
            if known is not None:
                del self.by_project[known.project_id][known.webhook_id]
            self.gone.add(recorded.stream_id)
            return
        event = decode(recorded)
        if isinstance(event, Webhook.Created):
            self._created(recorded, event)
        elif event is not None and recorded.stream_id in self.known:
            self._changed(self.known[recorded.stream_id], recorded, event)

    def _created(self, recorded: RecordedEvent, event: Webhook.Created) -> None:
        made = Subscriber(
            webhook_id=recorded.stream_id,
            tenant_id=recorded.tenant_id,
            project_id=recorded.project_id,
            url=event.url,
            selection=_selection(event),
            ordered=event.ordered,
            enabled=True,
            secret_id=event.secret_id,
        )
        self.known[made.webhook_id] = made
        self._place(made)
        self.changed.add(made.webhook_id)

    def _place(self, known: Subscriber) -> None:
        self.by_project.setdefault(known.project_id, {})[known.webhook_id] = known

    def _changed(self, known: Subscriber, recorded: RecordedEvent, event: object) -> None:
        match event:
            case Webhook.Changed():
                if known.ordered and not event.ordered:
                    self.unordered.add(known.webhook_id)
                known.url, known.ordered = event.url, event.ordered
                known.selection = _selection(event)
            case Webhook.SecretRotated():
                known.previous_secret_id = known.secret_id
                known.previous_until = event.previous_until
                known.secret_id = event.secret_id
            case Webhook.Disabled():
                known.enabled = False
            case Webhook.Enabled():
                known.enabled = True
            case Webhook.RedeliveryRequested():
                self.asked.append((recorded, event))
                self.redelivered.add(known.webhook_id)
            case _:
                pass
        self.changed.add(known.webhook_id)


def _selection(event: Webhook.Created | Webhook.Changed) -> EventSelection:
    return EventSelection(event_types=tuple(event.event_types), tags=tuple(event.tags))


def wished_of(subscribers: Iterable[Subscriber], recorded: RecordedEvent) -> list[Wished]:
    """Which webhooks want an event, as far as its type tells; none its own."""
    return [
        Wished(
            each.webhook_id,
            recorded.position,
            recorded.event_id,
            recorded.stored_type,
            recorded.stream_id,
            recorded.subject_id,
        )
        for each in subscribers
        if each.enabled
        and each.webhook_id != recorded.stream_id
        and (each.tenant_id, each.project_id) == (recorded.tenant_id, recorded.project_id)
        and each.selection.takes_type(recorded.stored_type)
    ]


async def wanted_by_tags(
    connection: PooledConnection, known: Mapping[UUID, Subscriber], wished: Sequence[Wished]
) -> list[Wished]:
    """Of these, without those that a webhook's tags rule out, and those of webhooks now gone."""
    still = [each for each in wished if each.webhook_id in known]
    by_tags = {
        each.stream_id
        for each in still
        if known[each.webhook_id].selection.tags and each.type.startswith("execution.")
    }
    tags = await rows.tags_of(connection, by_tags) if by_tags else {}
    return [
        each
        for each in still
        if known[each.webhook_id].selection.takes_tags(tags.get(each.stream_id, ()))
    ]
