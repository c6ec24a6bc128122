"""What is told of runs and datasets: each document valid, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from support.aggregates import AT
from support.lineage import COLUMNS, World, by_http, documents, managing, work
from support.receivers import Receiver

from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_domain.execution import (
    Cause,
    CellError,
    CellStatus,
    Execution,
    GivenDataset,
    KernelFacts,
    Resources,
    TerminationCode,
)
from nbledger_domain.notebook import NotebookChanges
from nbledger_infrastructure.postgres.database import Pool

NOT_TOLD = {"_producer", "_schemaURL"}


async def told(
    pool: Pool, there: Receiver, base: str | None = None, **settings: Any
) -> list[dict[str, Any]]:
    """All that is told of what has happened."""
    url = base or there.url.removesuffix("/hook")
    async with managing(pool, by_http(url, **settings)) as manager:
        assert await work(manager) is None
    found = documents(there.got)
    # Those of different jobs and datasets are sent side by side.
    return sorted(found, key=lambda each: each["schemaURL"])


def facet(holder: dict[str, Any], name: str, of: str = "facets") -> dict[str, Any]:
    return {key: each for key, each in holder[of][name].items() if key not in NOT_TOLD}


def states(found: list[dict[str, Any]], run: Execution) -> list[str]:
    return [each["eventType"] for each in found if each.get("run", {}).get("runId") == str(run.id)]


def tags(run: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: each["value"] for each in run["facets"]["tags"]["tags"]}


@pytest.mark.guarantee("G61")
async def test_a_run_is_told_with_what_it_was_given_and_what_it_wrote(
    pool: Pool, there: Receiver, world: World
) -> None:
    orders = await world.dataset()
    run = world.request(tags=["nightly"])
    epoch = run.claim("worker", at=AT)
    kernel = KernelFacts(
        kernelspec="python3", implementation="ipython", implementation_version="9.1.0"
    )
    run.start(epoch, language="python", language_version="3.11.7", kernel=kernel, at=AT)
    run.give_datasets(epoch, [GivenDataset(orders.id, 1)], at=AT)
    await world.save(run)
    enriched = await world.dataset(
        "Enriched",
        source=Source(
            kind="execution", execution_id=run.id, from_dataset_id=orders.id, from_version=1
        ),
    )
    attributes = {"datasetId": str(enriched.id), "datasetVersion": 1, "recordCount": 42}
    run.store_artifact(
        epoch,
        kind="dataset",
        name="Enriched",
        file_name="enriched.parquet",
        content=enriched.versions[0].content,
        attributes=attributes,
        at=AT,
    )
    run.complete(epoch, resources=Resources(), at=AT)
    await world.save(run)

    found = await told(pool, there)
    assert len(found) == 5
    assert states(found, run) == ["START", "RUNNING", "COMPLETE"]
    (start, given, end) = (each for each in found if "run" in each)
    for each in (start, given, end):
        assert each["run"]["runId"] == str(run.id)
        assert each["job"]["namespace"] == world.namespace
        assert each["job"]["name"] == str(world.notebook.id)
        assert facet(each["job"], "documentation")["description"] == "Order to cash: Finds rework"
        location = facet(each["job"], "sourceCodeLocation")
        assert location["url"].endswith(f"/notebook/{world.notebook.id}")
        assert location["version"] == world.notebook.notebook_version
        assert facet(each["job"], "jobType")["jobType"] == "NOTEBOOK"
    assert start["eventTime"] == "2024-01-20T10:30:00.000000Z"
    assert start["inputs"] == start["outputs"] == given["outputs"] == []
    assert tags(start["run"]) == {"nightly": "true", "cause": "request", "attempt": "1"}
    assert tags(end["run"])["terminationCode"] == "success"
    engine = facet(end["run"], "processing_engine")
    assert (engine["name"], engine["version"]) == ("ipython", "9.1.0")

    (read,) = end["inputs"]
    assert given["inputs"] == [read]
    assert (read["namespace"], read["name"]) == (world.namespace, str(orders.id))
    assert facet(read, "version") == {"datasetVersion": "1"}
    assert facet(read, "documentation") == {"description": "Orders"}
    statistics = {"rowCount": 42, "size": 1234, "fileCount": 1}
    assert facet(read, "inputStatistics", "inputFacets") == statistics
    (written,) = end["outputs"]
    assert written["name"] == str(enriched.id)
    assert facet(written, "outputStatistics", "outputFacets") == statistics
    assert facet(written, "lifecycleStateChange") == {"lifecycleStateChange": "CREATE"}
    assert facet(written, "schema")["fields"] == [
        {"name": each.name, "type": each.type, "ordinal_position": place}
        for place, each in enumerate(COLUMNS, start=1)
    ]
    datasets = {each["dataset"]["name"]: each["dataset"] for each in found if "dataset" in each}
    assert datasets.keys() == {str(orders.id), str(enriched.id)}
    made = {key: each for key, each in written.items() if key != "outputFacets"}
    assert datasets[str(enriched.id)] == made


@pytest.mark.guarantee("G61")
async def test_each_end_is_told(pool: Pool, there: Receiver, world: World) -> None:
    others: dict[str, Any] = {"resources": Resources(), "at": AT}
    ends: dict[str, tuple[str, Callable[[Execution], None]]] = {
        "success": ("COMPLETE", lambda run: run.complete(1, **others)),
        "cell_error": (
            "FAIL",
            lambda run: run.fail(
                1, TerminationCode.CELL_ERROR, detail="KeyError in cell-001", **others
            ),
        ),
        "run_timeout": (
            "FAIL",
            lambda run: run.time_out(1, TerminationCode.RUN_TIMEOUT, detail="Late.", **others),
        ),
        "kernel_died": ("FAIL", lambda run: run.kernel_died(1, detail="Killed.", **others)),
        "cancelled": ("ABORT", lambda run: run.cancel(1, **others)),
    }
    runs = {}
    for code, (_, end) in ends.items():
        runs[code] = run = world.request()
        run.claim("worker", at=AT)
        run.start(1, language="python", language_version="3.11.7", at=AT)
        execute(run, failing=code == "cell_error")
        end(run)
        await world.save(run)
    found = await told(pool, there)
    for code, (state, _) in ends.items():
        assert states(found, runs[code]) == ["START", state]
        (last,) = (each["run"] for each in found if is_end_of(each, runs[code]))
        assert tags(last)["terminationCode"] == code
        assert ("errorMessage" in last["facets"]) == (state == "FAIL")
        if code == "cell_error":
            assert facet(last, "errorMessage") == {
                "message": "KeyError in cell-001",
                "programmingLanguage": "python",
                "stackTrace": "Traceback:\nKeyError: 'x'",
            }
        elif state == "FAIL":
            assert "stackTrace" not in facet(last, "errorMessage")


def is_end_of(document: dict[str, Any], run: Execution) -> bool:
    return bool(document["run"]["runId"] == str(run.id) and document["eventType"] != "START")


def execute(run: Execution, *, failing: bool) -> None:
    """Run its cell."""
    run.start_cell(1, "cell-001", at=AT)
    run.finish_cell(
        1,
        "cell-001",
        status=CellStatus.ERROR if failing else CellStatus.SUCCESS,
        execution_count=1,
        duration=0.5,
        outputs=[],
        output_count=0,
        output_bytes=0,
        error=CellError("KeyError", "'x'", ["Traceback:", "KeyError: 'x'"]) if failing else None,
        at=AT,
    )


async def test_a_run_that_no_worker_took_has_a_start_all_the_same(
    pool: Pool, there: Receiver, world: World
) -> None:
    late, stopped = world.request(), world.request()
    late.expire(detail="No worker took it.", at=datetime(2024, 1, 20, 11, tzinfo=UTC))
    stopped.request_cancel(requested_by="user123", at=AT)
    await world.save(late)
    await world.save(stopped)
    found = await told(pool, there)
    assert states(found, late) == ["START", "FAIL"]
    assert states(found, stopped) == ["START", "ABORT"]
    assert [each["eventTime"][11:16] for each in found[:2]] == ["10:30", "11:00"]
    assert "attempt" not in tags(found[1]["run"])


async def test_further_attempts_go_on_with_the_run(
    pool: Pool, there: Receiver, world: World
) -> None:
    run = world.request()
    run.claim("one", at=AT)
    run.lose_attempt(1, "The worker was lost.", at=AT)
    await world.save(run)
    await world.run(run)
    found = await told(pool, there)
    assert states(found, run) == ["START", "RUNNING", "COMPLETE"]
    assert [tags(each["run"])["attempt"] for each in found] == ["1", "2", "2"]
    assert all("errorMessage" not in each["run"]["facets"] for each in found)


async def test_a_scheduled_run_has_its_nominal_time(
    pool: Pool, there: Receiver, world: World
) -> None:
    due = datetime(2024, 1, 21, 3, tzinfo=UTC)
    cause = Cause(
        kind="schedule", schedule_id=uuid4(), firing_id=uuid4(), due_at=due, trigger="due"
    )
    run = await world.run(world.request(cause=cause))
    found = await told(pool, there)
    assert states(found, run) == ["START", "COMPLETE"]
    for each in found:
        nominal = facet(each["run"], "nominalTime")
        assert nominal == {"nominalStartTime": "2024-01-21T03:00:00.000000Z"}
        assert tags(each["run"])["cause"] == "schedule"


async def test_a_run_that_repeats_another_names_it_and_the_first(
    pool: Pool, there: Receiver, world: World
) -> None:
    first = await world.run(world.request())
    second = await world.run(world.request(cause=Cause(kind="rerun", execution_id=first.id)))
    third = await world.run(world.request(cause=Cause(kind="repair", execution_id=second.id)))
    lost = await world.run(world.request(cause=Cause(kind="rerun", execution_id=uuid4())))
    found = await told(pool, there)
    parents = {
        each["run"]["runId"]: facet(each["run"], "parent")
        for each in found
        if "parent" in each["run"]["facets"]
    }
    assert parents.keys() == {str(second.id), str(third.id)}
    parent = parents[str(third.id)]
    assert parent["run"]["runId"] == str(second.id)
    assert parent["root"]["run"]["runId"] == str(first.id)
    assert parent["job"]["name"] == parent["root"]["job"]["name"] == str(world.notebook.id)
    assert states(found, lost) == ["START", "COMPLETE"]
    upstream = {
        each["run"]["runId"]: facet(each["run"], "jobDependencies")["upstream"][0]["run"]["runId"]
        for each in found
        if "jobDependencies" in each["run"]["facets"]
    }
    assert upstream == {str(second.id): str(first.id), str(third.id): str(second.id)}


async def test_repeats_may_be_told_without_a_parent(
    pool: Pool, there: Receiver, world: World
) -> None:
    first = await world.run(world.request())
    await world.run(world.request(cause=Cause(kind="rerun", execution_id=first.id)))
    found = await told(pool, there, repeats="dependency")
    assert all("parent" not in each["run"]["facets"] for each in found)
    assert sum("jobDependencies" in each["run"]["facets"] for each in found) == 2


async def test_a_run_that_a_new_version_brought_about_names_the_run_that_wrote_it(
    pool: Pool, there: Receiver, world: World
) -> None:
    maker = await world.run(world.request())
    made = await world.dataset(source=Source(kind="execution", execution_id=maker.id))
    uploaded = await world.dataset()
    for dataset in (made, uploaded):
        cause = Cause(
            kind="dataset",
            dataset_id=dataset.id,
            dataset_version=1,
            trigger_id=uuid4(),
            changes=1,
        )
        await world.run(world.request(cause=cause))
    found = await told(pool, there)
    upstream = [
        facet(each["run"], "jobDependencies")["upstream"]
        for each in found
        if "run" in each and "jobDependencies" in each["run"]["facets"]
    ]
    assert len(upstream) == 2
    for (each,) in upstream:
        assert each["run"] == {"runId": str(maker.id)}
        assert each["job"]["name"] == str(world.notebook.id)


async def test_versions_that_were_asked_for_are_inputs_from_the_start(
    pool: Pool, there: Receiver, world: World
) -> None:
    orders = await world.dataset()
    world.add_version(orders, Source(kind="upload", file_name="b.csv"), rows=7)
    await world.save(orders)
    await world.run(world.request(datasets=[GivenDataset(orders.id, 1)]))
    found = await told(pool, there)
    changes = [facet(each["dataset"], "lifecycleStateChange") for each in found[:2]]
    assert [each["lifecycleStateChange"] for each in changes] == ["CREATE", "OVERWRITE"]
    for each in found[2:]:
        (read,) = each["inputs"]
        assert facet(read, "version") == {"datasetVersion": "1"}
        assert facet(read, "inputStatistics", "inputFacets")["rowCount"] == 42


@pytest.mark.guarantee("G61")
@pytest.mark.parametrize("names", ["id", "readable"])
async def test_what_is_erased_before_it_is_told_is_told_without_it(
    pool: Pool, there: Receiver, world: World, names: str
) -> None:
    orders = await world.dataset("Secret orders")
    run = world.request(tags=["secret"], datasets=[GivenDataset(orders.id, 1)])
    run.claim("worker", at=AT)
    run.lose_attempt(1, "Secret reason.", at=AT)
    await world.save(run)
    await world.run(run)
    orders.delete(at=AT)
    await world.save(orders)
    await world.store.erase_subject(orders.id)
    await world.store.erase_subject(world.notebook.id)
    found = await told(pool, there, names=names)
    assert states(found, run) == ["START", "RUNNING", "COMPLETE"]
    for got in there.got:
        assert b"ecret" not in got.body
        assert b"Order to cash" not in got.body
    assert all(each["job"]["name"] == str(world.notebook.id) for each in found if "job" in each)
    datasets = [each["dataset"] for each in found if "dataset" in each]
    dropped = [facet(each, "lifecycleStateChange") for each in datasets][1:]
    # By a name that is erased nothing can be told to be gone.
    assert dropped == ([{"lifecycleStateChange": "DROP"}] if names == "id" else [])


async def test_readable_names_have_the_end_of_the_id(
    pool: Pool, there: Receiver, world: World
) -> None:
    orders = await world.dataset("Orders\nof 2024")
    await world.run(world.request(datasets=[GivenDataset(orders.id, 1)]))
    world.notebook.update(NotebookChanges(name="Later"), at=AT)
    await world.save(world.notebook)
    found = await told(pool, there, names="readable", namespace="eu/ledger")
    notebook = f"Order to cash ({world.notebook.id.hex[-8:]})"
    dataset = f"Orders of 2024 ({orders.id.hex[-8:]})"
    assert [each["job"]["name"] for each in found[1:]] == [notebook, notebook]
    assert found[0]["dataset"]["name"] == found[-1]["inputs"][0]["name"] == dataset
    namespace = f"eu/ledger/{world.tenant_id}/{world.project_id}"
    assert {each["job"]["namespace"] for each in found[1:]} == {namespace}


async def test_a_table_of_too_many_columns_is_told_without_them(
    pool: Pool, there: Receiver, world: World
) -> None:
    wide = Dataset.create(uuid4(), name="Wide", at=AT)
    wide.add_version(
        content=(await world.dataset()).versions[0].content,
        rows=1,
        columns=[Column(f"{number:0100d}", "number") for number in range(10_000)],
        source=Source(kind="upload", file_name="wide.csv"),
        at=AT,
    )
    await world.save(wide)
    await world.run(world.request(datasets=[GivenDataset(wide.id, 1)]))
    found = await told(pool, there)
    assert all(len(got.body) < 900_000 for got in there.got)
    told_of = {each["dataset"]["name"]: each["dataset"] for each in found if "dataset" in each}
    assert "schema" not in told_of[str(wide.id)]["facets"]
    (read,) = found[-1]["inputs"]
    assert "schema" not in read["facets"]
    assert facet(read, "version") == {"datasetVersion": "1"}
