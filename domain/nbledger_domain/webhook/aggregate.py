"""The webhook aggregate: an address that the events of a project are sent to."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from eventsourcing.domain import BaseAggregate, CanInitAggregate, event
from msgspec import UNSET, UnsetType

from nbledger_domain.errors import WebhookNotFoundError
from nbledger_domain.events import DomainEvent, register
from nbledger_domain.webhook.matching import EventSelection

DisableReason = Literal["requested", "gone"]


class Webhook(BaseAggregate[UUID]):
    """A subscription to the events of a project.

    It gets the events that are recorded after it was created, while it is enabled. Its signing
    secrets are in no event: events name them by id.
    """

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of a webhook."""

    class Created(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
        """Somebody subscribed ``url``.

        ``event_types`` and ``tags`` say to which events, all where they are empty; ``ordered`` is
        whether an event waits until those before it in its stream are delivered.
        """

        TYPE: ClassVar[str] = "webhook.created.v1"
        originator_topic: str
        url: str
        event_types: list[str]
        tags: list[str]
        description: str
        ordered: bool
        secret_id: UUID

    class Changed(Event, frozen=True, kw_only=True):
        """The subscription is another from now on."""

        TYPE: ClassVar[str] = "webhook.changed.v1"
        url: str
        event_types: list[str]
        tags: list[str]
        description: str
        ordered: bool

    class SecretRotated(Event, frozen=True, kw_only=True):
        """Deliveries are signed with a new secret, and until ``previous_until`` with the old."""

        TYPE: ClassVar[str] = "webhook.secret-rotated.v1"
        secret_id: UUID
        previous_until: datetime

    class Disabled(Event, frozen=True, kw_only=True):
        """Nothing is sent any more: by request, or because the receiver answered 410."""

        TYPE: ClassVar[str] = "webhook.disabled.v1"
        reason: DisableReason

    class Enabled(Event, frozen=True, kw_only=True):
        """Events are sent again from now on."""

        TYPE: ClassVar[str] = "webhook.enabled.v1"

    class RedeliveryRequested(Event, frozen=True, kw_only=True):
        """Somebody asked that events be sent again.

        Those in ``events``, or those after position ``after`` and up to ``until`` that the webhook
        wants.
        """

        TYPE: ClassVar[str] = "webhook.redelivery-requested.v1"
        events: list[UUID] | UnsetType = UNSET
        after: int | UnsetType = UNSET
        until: int | UnsetType = UNSET

    class Deleted(Event, frozen=True, kw_only=True):
        """The subscription is gone for good."""

        TYPE: ClassVar[str] = "webhook.deleted.v1"

    @event(Created)
    def __init__(
        self,
        *,
        url: str,
        event_types: list[str],
        tags: list[str],
        description: str,
        ordered: bool,
        secret_id: UUID,
    ) -> None:
        self.secret_id = secret_id
        self.enabled = True
        self.deleted = False
        self._set(url, event_types, tags, description, ordered=ordered)

    def _set(
        self, url: str, event_types: list[str], tags: list[str], description: str, *, ordered: bool
    ) -> None:
        self.url = url
        self.wanted = EventSelection(event_types=tuple(event_types), tags=tuple(tags))
        self.description = description
        self.ordered = ordered

    @classmethod
    def create(
        cls,
        webhook_id: UUID,
        *,
        url: str,
        wanted: EventSelection,
        description: str,
        ordered: bool,
        secret_id: UUID,
        at: datetime,
    ) -> "Webhook":
        """A new subscription."""
        return cls._create(
            cls.Created,
            id=webhook_id,
            timestamp=at,
            url=url,
            event_types=list(wanted.event_types),
            tags=list(wanted.tags),
            description=description,
            ordered=ordered,
            secret_id=secret_id,
        )

    def change(
        self, *, url: str, wanted: EventSelection, description: str, ordered: bool, at: datetime
    ) -> None:
        """Replace what is subscribed; the same as before changes nothing."""
        if (url, wanted, description, ordered) == (
            self.url,
            self.wanted,
            self.description,
            self.ordered,
        ):
            return
        self.trigger_event(
            self.Changed,
            timestamp=at,
            url=url,
            event_types=list(wanted.event_types),
            tags=list(wanted.tags),
            description=description,
            ordered=ordered,
        )

    def rotate_secret(self, secret_id: UUID, *, previous_until: datetime, at: datetime) -> None:
        """Sign with another secret; the one before it goes along until ``previous_until``."""
        self.trigger_event(
            self.SecretRotated, timestamp=at, secret_id=secret_id, previous_until=previous_until
        )

    def enable(self, *, at: datetime) -> None:
        """Send events again; where they are sent, nothing changes."""
        if not self.enabled:
            self.trigger_event(self.Enabled, timestamp=at)

    def disable(self, reason: DisableReason, *, at: datetime) -> None:
        """Send nothing any more; where nothing is sent, nothing changes."""
        if self.enabled and not self.deleted:
            self.trigger_event(self.Disabled, timestamp=at, reason=reason)

    def redeliver(self, events: Sequence[UUID], *, at: datetime) -> None:
        """Send these events again."""
        self.trigger_event(self.RedeliveryRequested, timestamp=at, events=list(events))

    def redeliver_range(self, *, after: int, until: int, at: datetime) -> None:
        """Send the wanted events after position ``after`` and up to ``until`` again."""
        self.trigger_event(self.RedeliveryRequested, timestamp=at, after=after, until=until)

    def delete(self, *, at: datetime) -> None:
        """Delete for good. Raises :class:`WebhookNotFoundError` when that is done already."""
        if self.deleted:
            raise WebhookNotFoundError(self.id)
        self.trigger_event(self.Deleted, timestamp=at)

    @event(Changed)
    def _apply_changed(
        self, *, url: str, event_types: list[str], tags: list[str], description: str, ordered: bool
    ) -> None:
        self._set(url, event_types, tags, description, ordered=ordered)

    @event(SecretRotated)
    def _apply_rotated(self, secret_id: UUID) -> None:
        self.secret_id = secret_id

    @event(Disabled)
    def _apply_disabled(self) -> None:
        self.enabled = False

    @event(Enabled)
    def _apply_enabled(self) -> None:
        self.enabled = True

    @event(RedeliveryRequested)
    def _apply_redelivery(self) -> None:
        """The subscription stays as it is."""

    @event(Deleted)
    def _apply_deleted(self) -> None:
        self.deleted = True


register(Webhook)
