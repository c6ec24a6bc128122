"""Runs without a kernel: the events that a worker would record."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from nbledger_application import repository
from nbledger_domain.execution import (
    CellStatus,
    Execution,
    Output,
    Representation,
    Resources,
)
from nbledger_domain.vocabulary.media_types import WIDGET_STATE
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata

BY = Metadata(actor="worker")


async def run(
    store: EventStore,
    artifacts: ArtifactStore,
    scope: Scope,
    execution_id: UUID,
    forms: dict[str, list[tuple[str, list[tuple[str, bytes]]]]],
    *,
    end: bool = True,
    widgets: bytes | None = None,
) -> None:
    """Claim, run every code cell with its outputs (type and forms, richest first), complete."""
    loaded = await aggregates.load(store, Execution, execution_id)
    assert loaded is not None
    execution = loaded.aggregate
    at = datetime.now(UTC)
    epoch = execution.claim("w1", at=at)
    execution.start(epoch, language="python", language_version="3.11.7", at=at)
    if widgets is not None:
        digest = await artifacts.put(scope, widgets)
        content = Representation(WIDGET_STATE, digest, len(widgets))
        execution.store_widgets(epoch, content, at=at)
    for cell in execution.cells:
        if cell.cell_type != "code":
            continue
        execution.start_cell(epoch, cell.cell_id, at=at)
        outputs = [
            Output(
                output_type=output_type,
                representations=[
                    Representation(kind, await artifacts.put(scope, content), len(content))
                    for kind, content in representations
                ],
                stream="stdout" if output_type == "stream" else None,
                width=8 if representations[0][0] == "image/png" else None,
                height=6 if representations[0][0] == "image/png" else None,
            )
            for output_type, representations in forms.get(cell.cell_id, [])
        ]
        execution.finish_cell(
            epoch,
            cell.cell_id,
            status=CellStatus.SUCCESS,
            execution_count=1,
            duration=0.5,
            outputs=outputs,
            output_count=len(outputs),
            output_bytes=10,
            error=None,
            at=at,
        )
    if end:
        content = Representation("text/html", await artifacts.put(scope, b"<p>report</p>"), 13)
        execution.store_artifact(
            epoch,
            kind="report",
            name="Report",
            file_name="report.html",
            content=content,
            attributes={"format": "html"},
            at=at,
        )
        content = Representation("text/csv", await artifacts.put(scope, b"a\n1\n"), 4)
        execution.store_artifact(
            epoch,
            kind="dataset",
            name="enriched",
            file_name="../../enriched.csv",
            content=content,
            attributes={"recordCount": 1, "newColumns": ["a"], "format": "pandas_dataframe"},
            at=at,
        )
        execution.complete(epoch, resources=Resources(), at=at)
    await repository.save(store, execution, loaded.stream, BY)
