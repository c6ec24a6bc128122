"""A worker's runs, on the real store, broker and kernels."""

from __future__ import annotations

import sys
from pathlib import Path
from uuid import UUID

import pytest
from support.executions import (
    AS_TESTER,
    HELD,
    SEES_FILES,
    TERMINAL,
    Stage,
    eventually,
    hold_kernels,
)

from nbledger_application import leases, repository
from nbledger_application.leases import Lease
from nbledger_domain.cells import Cell
from nbledger_domain.execution import (
    CellStatus,
    Execution,
    ExecutionStatus,
    Output,
    OutputOptions,
    Phase,
    TerminationCode,
)
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.settings import RunLimits

pytestmark = pytest.mark.stalls("its leases last a few seconds of the clock")


async def contents(scene: Stage, execution_id: UUID, output: Output) -> dict[str, bytes]:
    return {
        form.content_type: await scene.content(execution_id, form)
        for form in output.representations
    }


async def test_a_notebook_runs_from_command_to_results(scene: Stage, tmp_path: Path) -> None:
    execution_id = await scene.request(
        Cell(cell_id="a", cell_type="code", source="n = 1", metadata={"tags": ["parameters"]}),
        Cell(cell_id="b", cell_type="markdown", source="# Overview #\ntext"),
        Cell(cell_id="c", cell_type="code", source="import pandas\npandas.DataFrame({'n': [n]})"),
        Cell(cell_id="d", cell_type="code", source="1/0", metadata={"tags": ["skip-execution"]}),
        Cell(
            cell_id="e",
            cell_type="code",
            source="from mindzie_sdk import ProcessMiningClient\n"
            "print(ProcessMiningClient().dataset_id); print('x' * 1_500_000)",
        ),
        Cell(cell_id="f", cell_type="code", source=""),
        parameters={"n": 41},
        output_options=OutputOptions(generate_report=True),
    )
    async with scene.worker(limits=RunLimits(output_mb_per_cell=1)):
        offers = await worker_registry.offers(scene.pool)
        assert offers["python3"].workers == 1
        assert offers["python3"].language_version == ".".join(map(str, sys.version_info[:3]))
        await scene.command(execution_id)
        execution = await scene.until(execution_id)
    assert execution.status is ExecutionStatus.COMPLETED
    cells = {
        event.cell_id: event for event in await scene.events(execution_id, Execution.CellExecuted)
    }
    # Markdown needs no event; every other cell has exactly one, in order.
    assert [
        event.cell_id for event in await scene.events(execution_id, Execution.CellExecuted)
    ] == list("acdef")
    assert {event.cell_id for event in cells.values() if event.status is CellStatus.SKIPPED} == {
        "d"
    }

    (frame,) = cells["c"].outputs
    assert (frame.output_type, frame.title) == ("execute_result", "Overview")
    assert frame.metadata["dataFrame"] is True
    forms = await contents(scene, execution_id, frame)
    assert list(forms) == ["text/html", "text/plain"]
    assert b"41" in forms["text/html"]

    (printed,) = cells["e"].outputs
    text = (await contents(scene, execution_id, printed))["text/plain"]
    assert text.startswith(b"bound\nxxx")
    assert len(text) == 1_000_000
    assert cells["e"].output_bytes == 1_500_007
    types = await scene.types(execution_id)
    assert types.count("output-truncated") == 1

    # The injected cell is none of the notebook's, but the report shows it.
    (report,) = await scene.events(execution_id, Execution.ArtifactStored)
    told = (report.kind, report.name, report.file_name)
    assert told == ("report", "A notebook", "A-notebook.html")
    page = (await scene.content(execution_id, report.content)).decode()
    assert "default-src 'none'" in page
    assert "41" in page

    last = (await scene.history(execution_id))[-1]
    assert last.metadata.actor.startswith("worker:")
    assert await scene.leases() == 0
    assert await worker_registry.offers(scene.pool) == {}
    assert not list((tmp_path / "work").iterdir())


async def test_how_runs_end(at_work: Stage) -> None:
    wanted = {
        TerminationCode.CELL_ERROR: await at_work.request("x = 1", "{}['a']", "2"),
        TerminationCode.SUCCESS: await at_work.request("1/0", "2", continue_on_error=True),
        TerminationCode.CELL_TIMEOUT: await at_work.request(
            "import time; time.sleep(60)", cell_timeout=0.5
        ),
        TerminationCode.RUN_TIMEOUT: await at_work.request(
            "import time\nfor _ in range(600): time.sleep(0.1)", timeout=4.0
        ),
        TerminationCode.KERNEL_DIED: await at_work.request("import os; os._exit(3)", "2"),
    }
    await at_work.command(*wanted.values())
    for code, execution_id in wanted.items():
        execution = await at_work.until(execution_id)
        assert execution.termination_code is code, await at_work.types(execution_id)
        types = [recorded.type for recorded in await at_work.history(execution_id)]
        assert sum(each in TERMINAL for each in types) == 1
    failed, never = (
        (await at_work.events(wanted[TerminationCode.CELL_ERROR], Execution.CellExecuted))[1:],
        "cell-003",
    )
    assert [event.cell_id for event in failed] == ["cell-002"] != [never]
    assert failed[0].error is not None
    assert (failed[0].error.error_type, failed[0].error.error_message) == ("KeyError", "'a'")
    assert "\x1b" not in "".join(failed[0].error.traceback)
    (output,) = failed[0].outputs
    assert (
        b"KeyError"
        in (await contents(at_work, wanted[TerminationCode.CELL_ERROR], output))["text/plain"]
    )
    survived = await at_work.events(wanted[TerminationCode.SUCCESS], Execution.CellExecuted)
    assert [event.status for event in survived] == [CellStatus.ERROR, CellStatus.SUCCESS]


async def test_cells_of_a_range_without_outputs(at_work: Stage) -> None:
    execution = await at_work.run(
        "raise SystemExit('not planned')",
        "print(2 + 2)",
        "7",
        planned=["cell-002", "cell-003"],
        output_options=OutputOptions(capture_outputs=False),
    )
    assert execution.status is ExecutionStatus.COMPLETED
    cells = await at_work.events(execution.id, Execution.CellExecuted)
    assert [(cell.cell_id, cell.outputs, cell.output_count) for cell in cells] == [
        ("cell-002", [], 1),
        ("cell-003", [], 1),
    ]


async def test_two_workers_run_one_execution_once(scene: Stage) -> None:
    execution_ids = [await scene.request("x = 1") for _ in range(4)]
    async with scene.worker(), scene.worker():
        # Every command twice, and so perhaps to both workers.
        await scene.command(*execution_ids, *execution_ids)
        for execution_id in execution_ids:
            await scene.until(execution_id)
    for execution_id in execution_ids:
        assert await scene.types(execution_id) == [
            "requested",
            "claimed",
            "started",
            "cell-started",
            "cell-executed",
            "completed",
        ]


async def test_trivial_cells_share_appends(at_work: Stage) -> None:
    execution = await at_work.run(*["x = 1"] * 40)
    history = await at_work.history(execution.id)
    assert len(history) == 4 + 2 * 40
    assert len({recorded.recorded_at for recorded in history}) < 70


@pytest.mark.parametrize("told_by_kafka", [True, False])
async def test_cancel_while_running(at_work: Stage, *, told_by_kafka: bool) -> None:
    execution_id = await at_work.request("import time; time.sleep(60)", "2")
    await at_work.command(execution_id)
    await at_work.until(execution_id, lambda execution: execution.running_cell is not None)
    await at_work.cancel(execution_id, tell=told_by_kafka)
    execution = await at_work.until(execution_id)
    assert execution.termination_code is TerminationCode.CANCELLED
    assert execution.cell_statuses["cell-001"] is CellStatus.CANCELLED


async def test_cancelled_while_queued_never_runs(scene: Stage) -> None:
    cancelled = await scene.request("1")
    await scene.command(cancelled)
    await scene.cancel(cancelled, tell=False)
    after = await scene.request("1")
    async with scene.worker(concurrency=1):
        await scene.command(after)
        await scene.until(after)
        assert await scene.types(cancelled) == ["requested", "cancel-requested", "cancelled"]


async def test_a_deleted_notebook_is_not_run(scene: Stage) -> None:
    execution_id = await scene.request("1")
    loaded = await aggregates.load(scene.store, Execution, execution_id)
    assert loaded is not None
    await repository.update(
        scene.store,
        Notebook,
        loaded.aggregate.notebook_id,
        lambda notebook: notebook.request_deletion(at=clock.now()),
        AS_TESTER,
    )
    async with scene.worker():
        await scene.command(execution_id)
        execution = await scene.until(execution_id)
    assert execution.termination_code is TerminationCode.NOTEBOOK_DELETED
    assert await scene.types(execution_id) == ["requested", "claimed", "cancelled"]


async def test_a_stale_worker_is_fenced(scene: Stage, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    until_lost = f"import os, time\nwhile not os.path.exists({str(lost)!r}): time.sleep(0.01)"
    execution_id = await scene.request(until_lost, "2", "3")
    # In namespaces the kernel has a /tmp of its own, and would see nothing.
    async with scene.worker(**SEES_FILES):
        await scene.command(execution_id)
        await scene.until(execution_id, lambda execution: execution.running_cell is not None)

        # Somebody decides that this worker is lost, though it is not.
        await repository.update(
            scene.store,
            Execution,
            execution_id,
            lambda execution: execution.lose_attempt(1, "taken for dead", at=clock.now()),
            AS_TESTER,
        )
        before = await scene.types(execution_id)
        lost.touch()
        await scene.until_released()
    # What the running cell has put out since may be lost.
    assert before[-4:] == ["output-truncated", "warned", "attempt-lost", "failed"]
    assert await scene.types(execution_id) == before


async def test_a_claim_taken_over_silences_the_first_worker(
    scene: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = hold_kernels(tmp_path, monkeypatch)
    execution_id = await scene.request("1")
    async with scene.worker(**HELD):
        await scene.command(execution_id)
        await scene.until(execution_id, lambda execution: execution.phase is Phase.STARTING)
        taken_over = await repository.update(
            scene.store,
            Execution,
            execution_id,
            _take_over,
            AS_TESTER,
        )
        assert taken_over is not None
        go.touch()
        await scene.until_released()
    history = await scene.history(execution_id)
    last_claim = max(
        number for number, recorded in enumerate(history) if recorded.type == Execution.Claimed.TYPE
    )
    assert history[last_claim + 1 :] == []


def _take_over(execution: Execution) -> None:
    execution.lose_attempt(1, "taken for dead", at=clock.now())
    execution.claim("another", at=clock.now())


async def test_a_lost_lease_stops_the_run(scene: Stage) -> None:
    execution_id = await scene.request("import time; time.sleep(60)")
    # Kernels that wait would have folders, too.
    async with scene.worker(pool_min=0, pool_max=0):
        await scene.command(execution_id)
        await scene.until(execution_id, lambda execution: execution.running_cell is not None)
        before = await scene.types(execution_id)
        await leases.release(scene.pool, Lease(execution_id, 1))
        work = Path(scene.settings.worker.work_folder)
        await eventually(lambda: not list(work.glob("*/run-*")))
    assert await scene.types(execution_id) == before


async def test_an_ending_worker_hands_back_what_has_not_begun(
    scene: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = hold_kernels(tmp_path, monkeypatch)
    go.touch()
    running = await scene.request("import time; time.sleep(60)")
    async with scene.worker(concurrency=1, **HELD):
        await scene.command(running)
        await scene.until(running, lambda execution: execution.running_cell is not None)
    execution = await scene.until(running)
    assert execution.termination_code is TerminationCode.WORKER_LOST
    go.unlink()
    starting = await scene.request("1")
    async with scene.worker(concurrency=1, shutdown_grace_seconds=0.01, **HELD):
        await scene.command(starting)
        await scene.until(starting, lambda execution: execution.phase is Phase.STARTING)
    again = await scene.until(starting, lambda _: True)
    assert again.phase is Phase.QUEUED
    assert await scene.leases() == 0
    go.touch()
    async with scene.worker(concurrency=1, **HELD):
        await scene.command(starting)
        execution = await scene.until(starting)
    assert execution.status is ExecutionStatus.COMPLETED
    assert execution.epoch == 2
