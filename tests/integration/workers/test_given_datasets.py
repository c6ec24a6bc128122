"""Which versions of datasets come into a run's folder."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import msgspec
import polars as pl
import pytest
from support.executions import AS_TESTER, Stage

from nbledger_application import repository
from nbledger_domain.cells import Cell
from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_domain.execution import (
    Execution,
    GivenDataset,
    PlannedCell,
    Representation,
    RunOptions,
)
from nbledger_domain.notebook import Environment, Integration, Notebook
from nbledger_domain.vocabulary.media_types import PARQUET
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_infrastructure.postgres.event_store import Stream
from nbledger_workers.running.run_context import RunContext
from nbledger_workers.storing.patience import Patience


@pytest.mark.guarantee("G35")
async def test_a_run_is_given_the_newest_version_or_the_one_it_is_to_have(
    scene: Stage, tmp_path: Path
) -> None:
    store, artifacts = scene.store, scene.artifacts
    tenant_id, project_id, dataset_id, absent = scene.tenant_id, scene.project_id, uuid4(), uuid4()
    scope = Scope(tenant_id, project_id, dataset_id)
    dataset = Dataset.create(dataset_id, name="log", at=clock.now())
    for rows in (1, 2):
        path = tmp_path / f"{rows}.parquet"
        pl.DataFrame({"a": list(range(rows))}).write_parquet(path)
        digest = await artifacts.put_file(scope, path)
        dataset.add_version(
            content=Representation(PARQUET, digest, path.stat().st_size),
            rows=rows,
            columns=[Column("a", "integer")],
            source=Source(kind="upload", file_name="log.csv"),
            at=clock.now(),
        )
    stream = Stream(dataset_id, dataset_id, tenant_id, project_id)
    await repository.save(store, dataset, stream, AS_TESTER)

    notebook = Notebook.create(
        uuid4(),
        name="N",
        description="",
        kernel_type="python3",
        integration=Integration(dataset_binding=str(dataset_id)),
        environment=Environment(),
        cells=[Cell(cell_id="a", cell_type="code", source="1")],
        created_by="ann",
        at=clock.now(),
    )

    async def prepared(*pinned: GivenDataset) -> tuple[RunContext, int]:
        """What the run was given, and how many rows the file in its folder has."""
        execution = Execution.request(
            uuid4(),
            notebook_id=notebook.id,
            notebook_version="1.0.0",
            notebook_stream_version=1,
            kernel_type="python3",
            cells=[PlannedCell("a", "code")],
            parameters={"other": str(absent), "n": 1},
            options=RunOptions(timeout=60),
            requested_by="ann",
            at=clock.now(),
            datasets=pinned,
        )
        own = Stream(execution.id, notebook.id, tenant_id, project_id)
        patience = Patience(database_seconds=5, artifacts_seconds=5)
        context = RunContext(store, artifacts, own, execution, notebook, patience=patience)
        folder = tmp_path / str(execution.id)
        (folder / ".nbledger").mkdir(parents=True)
        told = msgspec.json.decode(await context.prepare(folder))["datasets"]
        if str(dataset_id) not in told:
            return context, 0
        found = told[str(dataset_id)]
        assert [GivenDataset(dataset_id, found["version"])] == context.given
        assert found["rowCount"] == found["version"]
        return context, pl.read_parquet(found["path"]).height

    context, rows = await prepared()
    assert (context.given, context.warnings, rows) == ([GivenDataset(dataset_id, 2)], [], 2)
    # What is pinned of another dataset changes nothing.
    context, rows = await prepared(GivenDataset(dataset_id, 1), GivenDataset(uuid4(), 5))
    assert (context.given, context.warnings, rows) == ([GivenDataset(dataset_id, 1)], [], 1)
    # A version that is not there is told, and no other one is given in its place.
    context, rows = await prepared(GivenDataset(dataset_id, 3), GivenDataset(absent, 1))
    assert (context.given, rows) == ([], 0)
    assert [each.split(",")[0] for each in context.warnings] == [
        f"Version 3 of dataset {dataset_id}",
        f"Version 1 of dataset {absent}",
    ]
    loaded = await aggregates.load(store, Dataset, dataset_id)
    assert loaded is not None
    loaded.aggregate.delete(at=clock.now())
    await repository.save(store, loaded.aggregate, loaded.stream, AS_TESTER)
    context, _ = await prepared()
    assert (context.given, context.warnings) == ([], [])
