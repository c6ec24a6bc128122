"""Starting runs that nobody asked for just now: of schedules, and of changes."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from nbledger_application import repository
from nbledger_domain.execution import Cause, Execution, PlannedCell, RetryPolicy, RunOptions
from nbledger_domain.notebook import Notebook
from nbledger_domain.vocabulary.priorities import Priority
from nbledger_infrastructure import clock
from nbledger_infrastructure.aggregates import replay
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    Metadata,
    RecordConflictError,
    Stream,
)
from nbledger_infrastructure.settings import Executions as ExecutionLimits

NOTEBOOKS_AT_ONCE: Final = 20
"""The events of at most so many notebooks are read by one statement: there may be many."""


class RunStarter:
    """Reads notebooks, and asks for runs of them whose ids are given."""

    def __init__(self, store: EventStore, limits: ExecutionLimits) -> None:
        self.store = store
        self._limits = limits

    def options(
        self,
        *,
        timeout: float | None = None,
        cell_timeout: float | None = None,
        priority: Priority = "Normal",
        retry_policy: RetryPolicy | None = None,
    ) -> RunOptions:
        """How a run goes on, which may have as long as is allowed now, whenever that was set."""
        longest = self._limits.max_timeout
        return RunOptions(
            timeout=min(timeout or self._limits.default_timeout, longest),
            cell_timeout=None if cell_timeout is None else min(cell_timeout, longest),
            priority=priority,
            retry_policy=retry_policy,
        )

    async def notebooks(self, notebook_ids: Sequence[UUID]) -> dict[UUID, Notebook]:
        """These notebooks as they are now, without those that are deleted or about to be."""
        found: dict[UUID, Notebook] = {}
        for start in range(0, len(notebook_ids), NOTEBOOKS_AT_ONCE):
            found |= await self._some_notebooks(notebook_ids[start : start + NOTEBOOKS_AT_ONCE])
        return found

    async def _some_notebooks(self, notebook_ids: Sequence[UUID]) -> dict[UUID, Notebook]:
        found: dict[UUID, Notebook] = {}
        for notebook_id, history in (await self.store.read_streams(notebook_ids)).items():
            notebook = replay(Notebook, history)
            if notebook is not None and not (notebook.deleted or notebook.deletion_requested):
                found[notebook_id] = notebook
        return found

    async def request_run(
        self,
        stream: Stream,
        notebook: Notebook,
        *,
        parameters: dict[str, Any],
        options: RunOptions,
        requested_by: str,
        cause: Cause,
        metadata: Metadata,
        tags: Sequence[str] = (),
    ) -> None:
        """Ask for a run of all cells; if that is done already, do nothing.

        The id of the run is that of ``stream``. Limits on waiting runs do not refuse it.
        """
        execution = Execution.request(
            stream.stream_id,
            notebook_id=notebook.id,
            notebook_version=notebook.notebook_version,
            notebook_stream_version=notebook.version,
            kernel_type=notebook.kernel_type,
            cells=[PlannedCell(cell.cell_id, cell.cell_type) for cell in notebook.cells],
            parameters=parameters,
            options=options,
            requested_by=requested_by,
            at=clock.now(),
            cause=cause,
            tags=tags,
        )
        try:
            await repository.save(self.store, execution, stream, metadata)
        except RecordConflictError:
            return
