"""The row of an execution's status: the document, and what folding on needs besides."""

from datetime import datetime
from uuid import UUID

import msgspec

from nbledger_domain.execution import (
    ExecutionStatus,
)
from nbledger_projections.machinery.snapshots import LEAST_BYTES
from nbledger_projections.read_models.executions.documents import (
    ExecutionDocument,
)


class ExecutionRow(msgspec.Struct):
    """A row: the document, and what folding on needs besides.

    ``silent`` holds the cells that go to no kernel: they succeed in passing. ``request_warnings``
    are those that the request was recorded with, which hold for every attempt.
    """

    execution_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    position: int
    version: int
    requested_position: int
    updated_at: datetime
    started_at: datetime
    document: ExecutionDocument
    silent: list[str]
    request_warnings: list[str]
    until_snapshot: int = LEAST_BYTES

    @property
    def ended(self) -> bool:
        """Whether the terminal event has happened."""
        return self.document.status != ExecutionStatus.RUNNING
