"""Rows that are about a notebook, or a part of it: they go when it is deleted."""

from typing import ClassVar, TypeVar
from uuid import UUID

from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.decoding import DELETED
from nbledger_projections.machinery.read_model import ReadModel, TableProjection

R = TypeVar("R")


class PartsProjection(TableProjection[R]):
    """Keeps rows that go with their notebook, whose id they have in the column ``NOTEBOOK``."""

    NOTEBOOK: ClassVar[str] = "notebook_id"

    def __init__(self, model: ReadModel[R]) -> None:
        super().__init__(model)
        self._delete = f"DELETE FROM {model.name} WHERE {self.NOTEBOOK} = ANY($1)"  # noqa: S608
        # Notebooks deleted in this batch.
        self._gone: set[UUID] = set()

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        if recorded.type == DELETED:
            self._remove(recorded.subject_id)
        else:
            super().apply(recorded)

    def _remove(self, notebook_id: UUID) -> None:
        self._gone.add(notebook_id)
        self._rows.forget(
            [key for key, row in self._rows.states() if getattr(row, self.NOTEBOOK) == notebook_id]
        )

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        await super().save(connection)
        if self._gone:
            await connection.execute(self._delete, sorted(self._gone))
            if self.model.snapshots is not None:
                await self.model.snapshots.delete(connection, sorted(self._gone))

    def settle(self) -> None:
        """What was saved is committed."""
        super().settle()
        self._gone.clear()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        super().reset()
        self._gone.clear()
