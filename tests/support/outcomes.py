"""Executions that have ended with the results that a test asks for; no kernel runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import httpx
from support.api import Api, new_notebook

from nbledger_application import repository
from nbledger_domain.execution import (
    ArtifactKind,
    CellStatus,
    Execution,
    Output,
    Representation,
    Resources,
)
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope
from nbledger_infrastructure.postgres.event_store import Metadata

Forms = Sequence[tuple[str, bytes]]


class Shown(NamedTuple):
    """An output: its forms, richest first, and what is told of it."""

    forms: Forms
    output_type: str = "display_data"
    told: Mapping[str, Any] = {}


class Left(NamedTuple):
    """A file that a run left."""

    kind: ArtifactKind
    file_name: str
    content: bytes
    content_type: str = "application/octet-stream"
    name: str = "a result"
    attributes: Mapping[str, Any] = {}


class Outcome(NamedTuple):
    """An ended execution."""

    client: httpx.AsyncClient
    notebook: str
    execution: str
    scope: Scope

    async def results(self, query: str = "") -> dict[str, Any]:
        """What the API tells of it."""
        answer = await self.client.get(f"{self.execution}/results?{query}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


async def ended(
    api: Api,
    artifacts: ArtifactStore,
    cells: Sequence[Sequence[Shown]],
    left: Sequence[Left] = (),
    metrics: Sequence[tuple[str, dict[str, float]]] = (),
) -> Outcome:
    """Run a notebook of as many code cells to its end, in name only.

    ``metrics`` are logged in this order, by the cell that is named first.
    """
    client = await api.client()
    notebook = await new_notebook(client, *(f"cell {n}" for n in range(len(cells))))
    path = f"/notebook/{notebook['notebookId']}"
    answer = await client.post(f"{path}/execute")
    assert answer.status_code == 202, answer.text
    execution_id = answer.json()["executionId"]
    scope = Scope(api.tenant_id, api.project_id, UUID(notebook["notebookId"]))
    loaded = await aggregates.load(api.store, Execution, UUID(execution_id))
    assert loaded is not None
    run, at = loaded.aggregate, datetime.now(UTC)
    epoch = run.claim("w1", at=at)
    run.start(epoch, language="python", language_version="3.11.7", at=at)

    async def kept(content_type: str, content: bytes) -> Representation:
        return Representation(content_type, await artifacts.put(scope, content), len(content))

    for cell, shown in zip(run.cells, cells, strict=True):
        run.start_cell(epoch, cell.cell_id, at=at)
        run.finish_cell(
            epoch,
            cell.cell_id,
            status=CellStatus.SUCCESS,
            execution_count=1,
            duration=0.1,
            outputs=[
                Output(
                    output_type=each.output_type,
                    representations=[await kept(*form) for form in each.forms],
                    **each.told,
                )
                for each in shown
            ],
            output_count=len(shown),
            output_bytes=1,
            error=None,
            at=at,
        )
    for each in left:
        run.store_artifact(
            epoch,
            kind=each.kind,
            name=each.name,
            file_name=each.file_name,
            content=await kept(each.content_type, each.content),
            attributes=dict(each.attributes),
            at=at,
        )
    for cell_id, figures in metrics:
        run.log_metrics(epoch, figures, cell_id=cell_id, at=at)
    run.complete(epoch, resources=Resources(), at=at)
    await repository.save(api.store, run, loaded.stream, Metadata(actor="worker"))
    return Outcome(client, path, f"{path}/execution/{execution_id}", scope)


async def alternative(
    artifacts: ArtifactStore, scope: Scope, role: str, file_name: str, content: bytes
) -> dict[str, Any]:
    """A further file of a result, kept, as an event's attributes tell it."""
    return {
        "role": role,
        "fileName": file_name,
        "contentType": "application/octet-stream",
        "digest": await artifacts.put(scope, content),
        "size": len(content),
    }
