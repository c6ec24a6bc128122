"""The library aggregate: a wheel that a project has uploaded for its notebooks."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from eventsourcing.domain import BaseAggregate, CanInitAggregate, event

from nbledger_domain.errors import LibraryNotFoundError
from nbledger_domain.events import DomainEvent, register
from nbledger_domain.execution import Representation


class Library(BaseAggregate[UUID]):
    """A stored wheel. Its ``version`` counts events; ``library_version`` is the wheel's own."""

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of a library."""

    class Uploaded(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
        """A wheel was uploaded; it never changes. ``name`` is normalised (PEP 503)."""

        TYPE: ClassVar[str] = "library.uploaded.v1"
        originator_topic: str
        name: str
        library_version: str
        file_name: str
        content: Representation
        requires_python: str | None
        dependencies: list[str]

    class Deleted(Event, frozen=True, kw_only=True):
        """The library is gone for good."""

        TYPE: ClassVar[str] = "library.deleted.v1"

    @event(Uploaded)
    def __init__(
        self,
        *,
        name: str,
        library_version: str,
        file_name: str,
        content: Representation,
        requires_python: str | None,
        dependencies: list[str],
    ) -> None:
        self.name = name
        self.library_version = library_version
        self.file_name = file_name
        self.content = content
        self.requires_python = requires_python
        self.dependencies = dependencies
        self.deleted = False

    @classmethod
    def upload(
        cls,
        library_id: UUID,
        *,
        name: str,
        version: str,
        file_name: str,
        content: Representation,
        requires_python: str | None,
        dependencies: Sequence[str],
        at: datetime,
    ) -> "Library":
        """A new library."""
        return cls._create(
            cls.Uploaded,
            id=library_id,
            timestamp=at,
            name=name,
            library_version=version,
            file_name=file_name,
            content=content,
            requires_python=requires_python,
            dependencies=list(dependencies),
        )

    def delete(self, *, at: datetime) -> None:
        """Delete for good. Raises :class:`LibraryNotFoundError` when that is done already."""
        if self.deleted:
            raise LibraryNotFoundError(self.id)
        self.trigger_event(self.Deleted, timestamp=at)

    @event(Deleted)
    def _apply_deleted(self) -> None:
        self.deleted = True


register(Library)
