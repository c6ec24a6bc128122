"""What the status of a run says where it was told to take longer than usual."""

from datetime import datetime
from uuid import UUID

import msgspec

from nbledger_domain.events import decode
from nbledger_domain.notices import RunNotice, run_notice_id
from nbledger_projections.read_models.executions.documents import (
    DurationWarningDocument,
    ExecutionDocument,
)
from nbledger_projections.read_models.humanize import timestamp
from nbledger_projections.read_models.notices import slow_run, slow_run_text


def warn_of_duration(
    document: ExecutionDocument, execution_id: UUID, data: bytes, type_name: str, at: datetime
) -> None:
    """Add what the notice of the run says, which was told ``at`` that time."""
    event = decode(
        type_name, data, stream_id=run_notice_id(execution_id), version=1, occurred_at=at
    )
    if isinstance(event, RunNotice.Slow):
        document.run_warnings = [*document.run_warnings, slow_run_text(event)]
        document.duration_warning = DurationWarningDocument(
            **msgspec.structs.asdict(slow_run(event)), told_at=timestamp(at)
        )
