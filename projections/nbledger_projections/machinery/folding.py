"""How events change a row, declared type by type."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from nbledger_domain.events import DomainEvent
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.decoding import check_known

R = TypeVar("R")

Change = Callable[[R, RecordedEvent, Any], None]
"""Changes a row by an event, which comes as recorded and decoded."""


def _nothing(_: object, __: RecordedEvent) -> None:
    """Where no change is common to all events."""


class Fold(Generic[R]):
    """The row after an event: ``created`` makes one, ``deleted`` ends it, ``changes`` alter it.

    There may be several types of events any of which makes one.

    ``create`` takes the recorded and the decoded event, and by name whatever :meth:`__call__` is
    given beside them. ``always`` is called after each event that there is a row for.
    """

    def __init__(
        self,
        created: type[DomainEvent] | tuple[type[DomainEvent], ...],
        create: Callable[..., R],
        *,
        changes: Mapping[str, Change[R]] = MappingProxyType({}),
        deleted: type[DomainEvent] | None = None,
        always: Callable[[R, RecordedEvent], None] = _nothing,
    ) -> None:
        several = created if isinstance(created, tuple) else (created,)
        self.created = frozenset(each.TYPE for each in several)
        self.deleted = None if deleted is None else deleted.TYPE
        self._create, self._changes, self._always = create, changes, always
        ends = [self.deleted] if self.deleted else []
        self.types: frozenset[str] = frozenset({*self.created, *changes, *ends})
        """Events that change a row otherwise than every event does."""

    def __call__(self, row: R | None, recorded: RecordedEvent, **given: Any) -> R | None:
        """The row after ``recorded``; ``None`` when there is none (any more).

        Takes ``row`` over: the caller must not use it afterwards. Raises
        :class:`UnknownEventTypeError`.
        """
        check_known(recorded)
        if recorded.type == self.deleted:
            return None
        if recorded.data is None:
            return row  # erased: the deletion follows
        if recorded.type in self.created:
            row = self._create(recorded, decode(recorded), **given)
        elif row is None:
            return None
        elif (change := self._changes.get(recorded.type)) is not None:
            change(row, recorded, decode(recorded))
        self._always(row, recorded)
        return row
