"""The dataset aggregate: tables that notebooks are bound to, in versions that never change."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

import msgspec
from eventsourcing.domain import BaseAggregate, CanInitAggregate, event

from nbledger_domain.errors import DatasetNotFoundError
from nbledger_domain.events import DomainEvent, register
from nbledger_domain.execution import Representation

ColumnType = Literal[
    "string",
    "integer",
    "number",
    "boolean",
    "datetime",
    "date",
    "time",
    "duration",
    "other",
]


class Column(msgspec.Struct, frozen=True):
    """A column of a dataset."""

    name: str
    type: ColumnType


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Where a version of a dataset came from.

    Of an upload, ``file_name`` is the name of the file. Of an execution: the execution, its
    notebook and that notebook's version, and the dataset version that it enriched, if it says so.
    """

    kind: Literal["upload", "execution"]
    file_name: str | None = None
    execution_id: UUID | None = None
    notebook_id: UUID | None = None
    notebook_version: str | None = None
    from_dataset_id: UUID | None = None
    from_version: int | None = None


class DatasetVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version: ``content`` is a Parquet file of ``rows`` rows. Versions count from 1."""

    number: int
    content: Representation
    rows: int
    columns: list[Column]
    source: Source


class Dataset(BaseAggregate[UUID]):
    """A stored table. Its ``version`` counts events; ``versions`` are for users."""

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of a dataset."""

    class Created(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
        """A dataset was made; its first version follows."""

        TYPE: ClassVar[str] = "dataset.created.v1"
        originator_topic: str
        name: str

    class VersionAdded(Event, frozen=True, kw_only=True):
        """The dataset has a new version, which is from now on the one that is read."""

        TYPE: ClassVar[str] = "dataset.version-added.v1"
        dataset_version: int
        content: Representation
        rows: int
        columns: list[Column]
        source: Source

    class Deleted(Event, frozen=True, kw_only=True):
        """The dataset is gone for good, with all its versions."""

        TYPE: ClassVar[str] = "dataset.deleted.v1"

    @event(Created)
    def __init__(self, *, name: str) -> None:
        self.name = name
        self.versions: list[DatasetVersion] = []
        self.deleted = False

    @classmethod
    def create(cls, dataset_id: UUID, *, name: str, at: datetime) -> "Dataset":
        """A new dataset, without any version yet."""
        return cls._create(cls.Created, id=dataset_id, timestamp=at, name=name)

    @property
    def head(self) -> DatasetVersion | None:
        """The newest version."""
        return self.versions[-1] if self.versions else None

    def add_version(
        self,
        *,
        content: Representation,
        rows: int,
        columns: Sequence[Column],
        source: Source,
        at: datetime,
    ) -> int:
        """Make this the newest version; returns its number.

        Raises :class:`DatasetNotFoundError` when the dataset is deleted.
        """
        if self.deleted:
            raise DatasetNotFoundError(self.id)
        number = len(self.versions) + 1
        self.trigger_event(
            self.VersionAdded,
            timestamp=at,
            dataset_version=number,
            content=content,
            rows=rows,
            columns=list(columns),
            source=source,
        )
        return number

    def delete(self, *, at: datetime) -> None:
        """Delete for good. Raises :class:`DatasetNotFoundError` when that is done already."""
        if self.deleted:
            raise DatasetNotFoundError(self.id)
        self.trigger_event(self.Deleted, timestamp=at)

    @event(VersionAdded)
    def _apply_version(
        self,
        dataset_version: int,
        content: Representation,
        rows: int,
        columns: list[Column],
        source: Source,
    ) -> None:
        self.versions.append(
            DatasetVersion(
                number=dataset_version, content=content, rows=rows, columns=columns, source=source
            )
        )

    @event(Deleted)
    def _apply_deleted(self) -> None:
        self.deleted = True


register(Dataset)
