"""What notebooks are given and what they leave: datasets, results, files; on the real thing."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pickle
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pandas as pd
import polars as pl
import psutil
import pytest
from support.executions import AS_TESTER, SEES_FILES, Stage

from nbledger_application import repository
from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_domain.execution import (
    Execution,
    ExecutionStatus,
    OutputOptions,
    Representation,
    TerminationCode,
)
from nbledger_domain.vocabulary.media_types import PARQUET
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope
from nbledger_infrastructure.postgres.event_store import Stream
from nbledger_infrastructure.settings import RunLimits
from nbledger_workers.kernel import run_folder
from nbledger_workers.kernel.driving.driver import KernelRun
from nbledger_workers.running import leavings
from nbledger_workers.running.environments import Provision
from nbledger_workers.storing.spool import Spool

_HAND_BACK = """
import json, os
from pathlib import Path
told = json.loads(Path(os.environ["NBLEDGER_RUN_FILE"]).read_text())
results = Path(os.environ["NBLEDGER_RUN_FILE"]).parent / "results"
def hand_back(number, kind, name, files=(), **attributes):
    draft = results / f"{number:06d}.part"
    draft.write_text(json.dumps({"kind": kind, "name": name, "files": [
        {"path": path, "fileName": path, "mediaType": media, "role": role}
        for path, media, role in files], "attributes": attributes}))
    draft.rename(results / f"{number:06d}.json")
"""


async def add_dataset(scene: Stage, frame: pl.DataFrame, folder: Path) -> UUID:
    """A dataset of one version."""
    path = folder / "log.parquet"
    frame.write_parquet(path)
    dataset_id = uuid4()
    digest = await scene.artifacts.put_file(
        Scope(scene.tenant_id, scene.project_id, dataset_id), path
    )
    at = datetime.now(UTC)
    dataset = Dataset.create(dataset_id, name="log", at=at)
    dataset.add_version(
        content=Representation(PARQUET, digest, path.stat().st_size),
        rows=frame.height,
        columns=[Column("case_id", "string"), Column("hours", "number")],
        source=Source(kind="upload", file_name="log.csv"),
        at=at,
    )
    stream = Stream(dataset_id, dataset_id, scene.tenant_id, scene.project_id)
    await repository.save(scene.store, dataset, stream, AS_TESTER)
    return dataset_id


async def left(scene: Stage, execution_id: UUID) -> dict[str, Execution.ArtifactStored]:
    """The artifacts of a run by name."""
    return {
        event.name: event for event in await scene.events(execution_id, Execution.ArtifactStored)
    }


_ENRICH = """
import polars as pl
source = told["datasets"][told["parameters"]["log"]]
frame = pl.read_parquet(source["path"])
assert (source["rowCount"], source["version"], source["name"]) == (frame.height, 1, "log"), source
assert [column["name"] for column in source["columns"]] == frame.columns
frame.with_columns(slow=pl.col("hours") > 1).write_parquet(results / "out.parquet")
hand_back(1, "enriched_dataset", "slow cases", [("out.parquet", "application/x-parquet", "data")],
    recordCount=99, columns=[], newColumns=["told wrongly"], format="parquet",
    sourceDatasetId=told["parameters"]["log"], sourceVersion=source["version"])
print(os.access(source["path"], os.R_OK), oct(os.stat(source["path"]).st_mode & 0o777))
"""


async def test_a_dataset_is_read_enriched_and_kept_with_its_lineage(
    at_work: Stage, tmp_path: Path
) -> None:
    log = pl.DataFrame({"case_id": ["a", "b", "b"], "hours": [0.5, 1.5, 2.5]})
    dataset_id = await add_dataset(at_work, log, tmp_path)
    execution = await at_work.run(_HAND_BACK + _ENRICH, parameters={"log": str(dataset_id).upper()})
    assert execution.status is ExecutionStatus.COMPLETED
    assert await at_work.warnings(execution.id) == []
    (stored,) = (await left(at_work, execution.id)).values()
    assert (stored.kind, stored.name, stored.file_name) == ("dataset", "slow cases", "out.parquet")
    attributes = stored.attributes
    assert attributes["recordCount"] == 3
    assert attributes["newColumns"] == ["slow"]
    assert attributes["sourceDatasetId"] == str(dataset_id)
    kept = await at_work.content(execution.id, stored.content)

    loaded = await aggregates.load(at_work.store, Dataset, UUID(attributes["datasetId"]))
    assert loaded is not None
    (version,) = loaded.aggregate.versions
    assert (version.number, version.rows) == (1, 3)
    assert version.columns[-1] == Column("slow", "boolean")
    assert version.source == Source(
        kind="execution",
        execution_id=execution.id,
        notebook_id=execution.notebook_id,
        notebook_version=execution.notebook_version,
        from_dataset_id=dataset_id,
        from_version=1,
    )
    own = Scope(at_work.tenant_id, at_work.project_id, loaded.aggregate.id)
    path = tmp_path / "back.parquet"
    path.write_bytes(await at_work.artifacts.get(own, version.content.digest))
    assert path.read_bytes() == kept
    assert pl.read_parquet(path)["slow"].to_list() == [False, True, True]


_WITH_SDK = """
from mindzie_sdk import ProcessMiningClient
from sklearn.tree import DecisionTreeClassifier
client = ProcessMiningClient()
log = client.load_dataset()
log["slow"] = log["hours"] > 1
client.save_enriched_dataset(log, "as parquet", "parquet")
client.save_enriched_dataset(log, "as csv", "csv")
model = DecisionTreeClassifier().fit(log[["hours"]], log["slow"])
client.save_model(model, "tree", metrics={"accuracy": 1.0, "f1": 1}, target="slow")
client.save_report("# Findings\\nAll is slow.")
for value in (1, 2): client.log_metric("cases", value)
"""


@pytest.mark.timeout(240)
async def test_what_the_sdk_hands_back_is_kept(at_work: Stage, tmp_path: Path) -> None:
    log = pl.DataFrame({"case_id": ["a", "b", "b"], "hours": [0.5, 1.5, 2.5]})
    dataset_id = await add_dataset(at_work, log, tmp_path)
    execution = await at_work.run(_WITH_SDK, timeout=180.0, binding=str(dataset_id), seconds=200)
    assert execution.status is ExecutionStatus.COMPLETED
    assert await at_work.warnings(execution.id) == []
    found = await left(at_work, execution.id)
    assert {name: event.kind for name, event in found.items()} == {
        "as parquet": "dataset",
        "as csv": "dataset",
        "tree": "model",
        "Findings": "report",
    }
    for name in ("as parquet", "as csv"):
        told = found[name].attributes
        assert (told["recordCount"], told["newColumns"]) == (3, ["slow"])
        assert told["sourceDatasetId"] == str(dataset_id)
        assert told["format"] == "pandas_dataframe"
    (typed,) = found["as csv"].attributes["alternatives"]
    assert (found["as csv"].content.content_type, typed["role"]) == ("text/csv", "table")
    # The dataset has its types from there.
    assert typed["digest"] == found["as parquet"].content.digest
    told = found["tree"].attributes
    assert (told["modelType"], told["features"]) == ("DecisionTreeClassifier", ["hours"])
    assert [each["role"] for each in told["alternatives"]] == ["skops"]
    path = tmp_path / "tree.pkl"
    path.write_bytes(await at_work.content(execution.id, found["tree"].content))
    with path.open("rb") as file:
        model = pickle.load(file)  # noqa: S301 (made above)
    assert list(model.predict(pd.DataFrame({"hours": log["hours"].to_list()}))) == [
        False,
        True,
        True,
    ]
    (logged,) = await at_work.events(execution.id, Execution.MetricsLogged)
    assert logged.metrics == {"cases": 2.0}


async def test_what_a_project_does_not_hold_is_absent(at_work: Stage, tmp_path: Path) -> None:
    dataset_id = await add_dataset(
        at_work, pl.DataFrame({"case_id": ["a"], "hours": [1]}), tmp_path
    )
    at_work.tenant_id = uuid4()
    execution = await at_work.run(
        _HAND_BACK + "assert told['datasets'] == {}, told\n"
        "assert not (results.parent / 'datasets').exists()",
        parameters={"log": str(dataset_id), "other": str(uuid4())},
    )
    assert execution.status is ExecutionStatus.COMPLETED


_VARIOUS = """
(results / "m.pkl").write_bytes(b"pickled")
(results / "m.skops").write_bytes(b"skops")
(results / "r.md").write_text("# Findings")
hand_back(1, "model", "forest", [("m.skops", "application/octet-stream", "skops"),
    ("m.pkl", "application/octet-stream", "model")],
    modelType="RandomForestClassifier", features=["hours"], accuracy=0.75, metrics={"f1": 0.7})
hand_back(2, "report", "findings", [("r.md", "text/markdown", "report")], format="markdown")
hand_back(3, "metric", "cases", value=3)
"""
_MORE = """
hand_back(4, "metric", "cases", value=4)
os.makedirs("outputs/sub")
Path("outputs/sub/table.csv").write_text("a,b\\n1,2\\n")
Path("outputs/empty").touch()
for name in (b"\\x01.txt", b"\\xff.txt", "\ufffd.txt".encode()):
    Path(os.fsdecode(b"outputs/" + name)).write_bytes(name)
"""


async def test_models_reports_metrics_and_files_are_kept(at_work: Stage) -> None:
    execution_id = await at_work.request(_HAND_BACK, _VARIOUS, _MORE)
    await at_work.command(execution_id)
    assert (await at_work.until(execution_id, seconds=90)).status is ExecutionStatus.COMPLETED
    assert await at_work.warnings(execution_id) == []
    found = await left(at_work, execution_id)
    # Names that cannot be told as they are do not hide one another, nor one that can.
    odd = {"\ufffd.txt", "\ufffd-2.txt", "\ufffd-3.txt"}
    assert set(found) == {"forest", "findings", "sub/table.csv", "empty", *odd}
    contents = {name: await at_work.content(execution_id, found[name].content) for name in odd}
    assert contents["\ufffd.txt"] == "\ufffd.txt".encode()
    assert set(contents.values()) == {b"\x01.txt", b"\xff.txt", "\ufffd.txt".encode()}
    model = found["forest"]
    assert (model.kind, model.file_name, model.attributes["accuracy"]) == ("model", "m.pkl", 0.75)
    assert await at_work.content(execution_id, model.content) == b"pickled"
    (other,) = model.attributes["alternatives"]
    form = Representation(other["contentType"], other["digest"], other["size"])
    assert (other["role"], await at_work.content(execution_id, form)) == ("skops", b"skops")
    assert model.attributes["cellId"] == "cell-002"
    assert found["findings"].attributes == {"format": "markdown", "cellId": "cell-002"}
    table = found["sub/table.csv"]
    assert (table.kind, table.file_name, table.content.content_type, table.attributes) == (
        "file",
        "table.csv",
        "text/csv",
        {"path": "sub/table.csv"},
    )
    assert await at_work.content(execution_id, table.content) == b"a,b\n1,2\n"
    assert await at_work.content(execution_id, found["empty"].content) == b""
    last = (await at_work.events(execution_id, Execution.MetricsLogged))[-1]
    assert (last.cell_id, last.metrics) == ("cell-003", {"cases": 4.0})


_FIRST = """
hand_back(1, "metric", "first", value=1)
(results / "r.txt").write_text("as it was")
hand_back(2, "file", "text", [("r.txt", "text/plain", "data")])
(results / "s.txt").write_text("stays")
hand_back(3, "file", "stays", [("s.txt", "text/plain", "data")])
"""
_REWRITING = """
before = os.stat(results / "000001.json")
for path in (results / "000001.json", results / "r.txt"):
    # In place, with the times of before.
    path.write_text(path.read_text().replace("1", "10").replace("was", "is not"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
hand_back(4, "metric", "second", value=2)
os.utime(results / "000004.json", ns=(before.st_atime_ns, before.st_mtime_ns))
"""


@pytest.mark.guarantee("G16")
async def test_no_cell_can_hand_back_for_an_earlier_one(at_work: Stage) -> None:
    """Whatever times it gives its files; and what it rewrites is not taken as it was before."""
    at_end, at_once = [
        await at_work.request(
            _HAND_BACK,
            _FIRST,
            _REWRITING,
            output_options=OutputOptions(save_intermediate_results=at_once),
        )
        for at_once in (False, True)
    ]
    for execution_id in (at_end, at_once):
        await at_work.command(execution_id)
        execution = await at_work.until(execution_id, seconds=90)
        assert execution.status is ExecutionStatus.COMPLETED
        assert await executed_well(at_work, execution_id)
        found = await left(at_work, execution_id)
        assert found["stays"].attributes == {"cellId": "cell-002"}
        logged: dict[object, dict[str, float]] = {}
        for event in await at_work.events(execution_id, Execution.MetricsLogged):
            logged.setdefault(event.cell_id, {}).update(event.metrics)
        assert logged.pop("cell-003") == {"first": 10.0, "second": 2.0}
        told = await at_work.warnings(execution_id)
        changed = "changed after the cell that handed it back was over"
        if "cell-002" in logged:
            assert logged.pop("cell-002") == {"first": 1.0}
        else:
            assert any(changed in each and "000001.json" in each for each in told)
        assert logged == {}
        if "text" in found:
            assert await at_work.content(execution_id, found["text"].content) == b"as it was"
        else:
            assert any(changed in each and "'text'" in each for each in told)
        if execution_id == at_end:
            assert len(told) == 2


_WICKED = """
secret = told["parameters"]["secret"]
os.symlink(secret, results / "link")
os.symlink(os.path.dirname(secret), results / "folder")
os.mkfifo(results / "pipe")
for number, path in enumerate(
    ["link", "folder/secret.txt", "../../../secret.txt", secret, "pipe", "none", "."], 1
):
    hand_back(number, "file", f"file {number}", [(path, "text/plain", "data")])
(results / "000020.json").write_text('{"kind": "model"}')
nan = '{"kind": "metric", "name": "n", "attributes": {"value": NaN}}'
(results / "000021.json").write_text(nan)
os.symlink(secret, results / "000022.json")
(results / "000023.json").write_bytes(b" " * 2_000_000)
(results / "000024.json").write_text("[" * 100_000)
(results / "bad.parquet").write_bytes(b"PAR1 and nothing")
hand_back(25, "enriched_dataset", "no table", [("bad.parquet", "a/b", "data")], recordCount=5,
    columns=[], newColumns=[], format="parquet")
os.symlink(secret, "outputs/link.txt")
os.symlink(os.path.dirname(secret), "outputs/folder")
Path("outputs/good.txt").write_text("good")
Path("outputs", b"bad\\xff\\nname.txt".decode("utf-8", "surrogateescape")).write_text("named")
"""


async def test_nothing_from_outside_of_the_folder_is_taken(scene: Stage, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    async with scene.worker(**SEES_FILES):
        execution = await scene.run(
            _HAND_BACK + _WICKED, parameters={"secret": str(secret)}, continue_on_error=True
        )
    assert execution.status is ExecutionStatus.COMPLETED
    assert await executed_well(scene, execution.id)
    found = await left(scene, execution.id)
    assert set(found) == {"good.txt", "no table", "bad\ufffd\ufffdname.txt"}
    assert found["no table"].kind == "file"
    assert found["no table"].attributes == {"cellId": "cell-001"}
    told = await scene.warnings(execution.id)
    assert len(told) == 7 + 5 + 1 + 2
    for what in ("link", "pipe"):
        assert any(what in each or "regular" in each for each in told), told
    stored = [path.read_bytes() for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert not any(each == b"the secret" for each in stored)


async def executed_well(scene: Stage, execution_id: UUID) -> bool:
    cells = await scene.events(execution_id, Execution.CellExecuted)
    return all(event.error is None for event in cells)


_MANY = """
for number in range(5): Path(f"outputs/{number}.txt").write_text("x" * 400_000)
Path("outputs/a large one").write_bytes(bytes(3_000_000))
with open("outputs/a sparse one", "wb") as file: file.truncate(10**12)
"""


@pytest.mark.parametrize(
    ("limits", "kept", "told"),
    [
        (RunLimits(artifacts_per_run=3, disk_mb=0), 3, "4 of 7 files in outputs/ are not kept"),
        (RunLimits(artifact_mb_per_file=1, disk_mb=0), 5, "larger than the 1 MB"),
        (RunLimits(artifact_mb_per_run=1, disk_mb=0), 2, "larger than the 0.2 MB"),
    ],
)
async def test_of_what_is_beyond_a_limit_a_warning_tells(
    scene: Stage, limits: RunLimits, kept: int, told: str
) -> None:
    execution_id = await scene.request(_HAND_BACK + _MANY)
    async with scene.worker(limits=limits):
        await scene.command(execution_id)
        assert (await scene.until(execution_id, seconds=90)).status is ExecutionStatus.COMPLETED
    assert len(await left(scene, execution_id)) == kept
    assert any(told in each for each in await scene.warnings(execution_id))


@pytest.mark.parametrize("intermediate", [True, False])
async def test_what_was_handed_back_outlives_its_kernel(
    at_work: Stage, *, intermediate: bool
) -> None:
    execution = await at_work.run(
        _HAND_BACK + _VARIOUS,
        "import time\nPath('outputs/late.txt').write_text('late')\nos.kill(os.getpid(), 9)",
        output_options=OutputOptions(save_intermediate_results=intermediate),
    )
    assert execution.termination_code is TerminationCode.KERNEL_DIED
    assert set(await left(at_work, execution.id)) == {"forest", "findings", "late.txt"}
    types = await at_work.types(execution.id)
    stored, second_cell = types.index("artifact-stored"), types.index("cell-started", 4)
    assert types.index("cell-executed") < stored < types.index("kernel-died")
    # With the first cell, or when all is over.
    assert (stored < second_cell) is intermediate


async def test_disk_that_datasets_take_is_not_the_notebooks(scene: Stage, tmp_path: Path) -> None:
    noise = [os.urandom(500).hex() for _ in range(5_000)]
    large = pl.DataFrame({"case_id": noise, "hours": [1.0] * 5_000})
    dataset_id = await add_dataset(scene, large, tmp_path)
    assert (tmp_path / "log.parquet").stat().st_size > 2_000_000
    async with scene.worker(limits=RunLimits(disk_mb=2)):
        execution = await scene.run(
            "import time; time.sleep(1.2)", parameters={"log": str(dataset_id)}
        )
    assert execution.status is ExecutionStatus.COMPLETED


async def test_runs_of_one_notebook_add_versions_to_one_dataset(at_work: Stage) -> None:
    source = _HAND_BACK + (
        "import polars as pl\npl.DataFrame({'n': [1]}).write_parquet(results / 'n.parquet')\n"
        "hand_back(1, 'enriched_dataset', 'n', [('n.parquet', 'a/b', 'data')],"
        " recordCount=1, columns=[], newColumns=['n'], format='parquet', datasetName='Numbers')"
    )
    source += (
        "\npl.DataFrame({'n': [1], 'at': ['2024-01-01']}).write_csv(results / 'n.csv')\n"
        "hand_back(2, 'enriched_dataset', 'as csv', [('n.csv', 'text/csv', 'data')],"
        " recordCount=1, columns=[], newColumns=['n'], format='csv')"
    )
    first = await at_work.request(source)
    await at_work.command(first)
    await at_work.until(first, seconds=90)
    second = await at_work.again(first)
    await at_work.command(second)
    await at_work.until(second, seconds=90)
    told = [(await left(at_work, each))["n"].attributes for each in (first, second)]
    assert [each["datasetVersion"] for each in told] == [1, 2]
    (dataset_id,) = {each["datasetId"] for each in told}
    loaded = await aggregates.load(at_work.store, Dataset, UUID(dataset_id))
    assert loaded is not None
    assert loaded.aggregate.name == "Numbers"
    csv = (await left(at_work, second))["as csv"]
    assert (csv.file_name, csv.attributes["recordCount"]) == ("n.csv", 1)
    assert [each["type"] for each in csv.attributes["columns"]] == ["integer", "date"]
    assert await at_work.content(second, csv.content) == b"n,at\n1,2024-01-01\n"
    assert (
        msgspec.json.encode(told[0]["columns"])
        == json.dumps([{"name": "n", "type": "integer"}], separators=(",", ":")).encode()
    )


async def test_whatever_fails_at_its_end_a_run_leaves_no_reader_of_tables(
    scene: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _HAND_BACK + (
        "import polars as pl\npl.DataFrame({'n': [1]}).write_parquet(results / 'n.parquet')\n"
        "hand_back(1, 'enriched_dataset', 'n', [('n.parquet', 'a/b', 'data')],"
        " recordCount=1, columns=[], newColumns=['n'], format='parquet')"
    )
    closing = asyncio.Event()

    async def failing(_spool: Spool) -> None:
        closing.set()
        raise OSError(errno.EIO, "the disk")

    monkeypatch.setattr(Spool, "close", failing)
    before = set(psutil.Process().children(recursive=True))
    async with scene.worker():
        execution = await scene.request(source)
        await scene.command(execution)
        await scene.until(execution, seconds=90)
        assert (await left(scene, execution))["n"].kind == "dataset"
        await closing.wait()
    left_over = set(psutil.Process().children()) - before
    assert not any("table_facts" in " ".join(each.cmdline()) for each in left_over)


_TWO_FILES = """
for name in ("good", "bad"):
    (results / name).write_text(name)
hand_back(1, "file", "bad", [("bad", "text/plain", "data")])
hand_back(2, "file", "good", [("good", "text/plain", "data")])
Path("outputs/bad.txt").write_text("bad")
Path("outputs/good.txt").write_text("good")
"""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (TimeoutError(), "it took too long"),
    ],
)
async def test_what_cannot_be_stored_costs_itself_and_not_the_run(
    at_work: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    put_file = ArtifactStore.put_file

    async def put_some(
        self: ArtifactStore, scope: Scope, path: Path, *, digest: str | None = None
    ) -> str:
        if await asyncio.to_thread(path.read_text) == "bad":
            raise error
        return await put_file(self, scope, path, digest=digest)

    monkeypatch.setattr(ArtifactStore, "put_file", put_some)
    execution = await at_work.run(_HAND_BACK + _TWO_FILES)
    assert execution.status is ExecutionStatus.COMPLETED
    assert set(await left(at_work, execution.id)) == {"good", "good.txt"}
    assert await at_work.warnings(execution.id) == [
        f"A result that was handed back (000001.json) is not kept: {reason}.",
        f"The file outputs/bad.txt is not kept: {reason}.",
    ]


def hold_storing(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """No file that reads "bad" is ever stored; set once somebody waits for that."""
    waits = asyncio.Event()
    put_file = ArtifactStore.put_file

    async def put_others(
        self: ArtifactStore, scope: Scope, path: Path, *, digest: str | None = None
    ) -> str:
        if await asyncio.to_thread(path.read_text) == "bad":
            waits.set()
            await asyncio.Event().wait()
        return await put_file(self, scope, path, digest=digest)

    monkeypatch.setattr(ArtifactStore, "put_file", put_others)
    return waits


_BAD_LAST = """
for number, name in enumerate(("good", "bad"), 1):
    (results / name).write_text(name)
    hand_back(number, "file", name, [(name, "text/plain", "data")])
hand_back(3, "metric", "cases", value=3)
"""


async def test_a_cancel_stops_collecting_and_what_was_taken_is_kept(
    at_work: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = hold_storing(monkeypatch)
    execution_id = await at_work.request(
        _HAND_BACK + _BAD_LAST,
        timeout=600.0,
        output_options=OutputOptions(save_intermediate_results=False),
    )
    await at_work.command(execution_id)
    async with asyncio.timeout(60):
        await waits.wait()
    await at_work.cancel(execution_id)
    execution = await at_work.until(execution_id, seconds=30)
    # All of its cells have run.
    assert execution.status is ExecutionStatus.COMPLETED
    assert set(await left(at_work, execution_id)) == {"good"}
    (told,) = await at_work.warnings(execution_id)
    assert "the run was cancelled while collecting them" in told


@pytest.mark.parametrize("intermediate", [True, False])
async def test_collecting_ends_soon_after_the_time_of_the_run(
    at_work: Stage, monkeypatch: pytest.MonkeyPatch, *, intermediate: bool
) -> None:
    monkeypatch.setattr(leavings, "COLLECT_SECONDS", 0.1)
    hold_storing(monkeypatch)
    execution = await at_work.run(
        _HAND_BACK + _BAD_LAST,
        timeout=4.0,
        output_options=OutputOptions(save_intermediate_results=intermediate),
    )
    assert execution.termination_code is not TerminationCode.INTERNAL_ERROR
    assert set(await left(at_work, execution.id)) == {"good"}
    (told,) = await at_work.warnings(execution.id)
    assert "it took too long" in told


_MANY_NAMES = """
for number in range(200):
    (results / f"part {number}").touch()
os.makedirs("outputs/" + "/".join("abcdefghijklmnopq"))
for number in range(200):
    Path(f"outputs/{number}").touch()
hand_back(1, "metric", "cases", value=3)
"""


async def test_of_long_folders_other_threads_read_the_names_and_warnings_tell(
    at_work: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def watch(name: str, most: int) -> None:
        original = getattr(run_folder, name)

        def called(*args: Any, limit: int, **more: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                looked.append(limit)
            return original(*args, limit=min(limit, most), **more)

        monkeypatch.setattr(run_folder, name, called)

    watch("names", 150)
    watch("files", 150)
    watch("read", 10**6)
    execution = await at_work.run(
        _HAND_BACK + _MANY_NAMES,
        output_options=OutputOptions(save_intermediate_results=False),
    )
    assert execution.status is ExecutionStatus.COMPLETED
    assert looked
    assert max(looked) < 100
    told = await at_work.warnings(execution.id)
    assert "There are too many files among the results to see them all." in told
    assert any("names in outputs/: files beyond them are not kept" in each for each in told)
    assert len(await left(at_work, execution.id)) >= 149


async def test_of_folders_that_lie_too_deep_a_warning_tells(at_work: Stage) -> None:
    deep = "outputs/" + "/".join("abcdefghijklmnopq")
    execution = await at_work.run(
        f"import os\nos.makedirs({deep!r})\nopen({deep + '/lost'!r}, 'w').close()"
    )
    (told,) = await at_work.warnings(execution.id)
    assert told.startswith(f"What is in {deep} is not kept: too deep")


async def test_the_environment_is_given_back_whatever_the_kernels_end(
    at_work: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()
    close, release = KernelRun.close, Provision.release

    async def fail(self: KernelRun) -> None:
        await close(self)
        raise RuntimeError("the kernel's folder")

    def tell(self: Provision) -> None:
        release(self)
        released.set()

    monkeypatch.setattr(KernelRun, "close", fail)
    monkeypatch.setattr(Provision, "release", tell)
    execution = await at_work.run("1")
    async with asyncio.timeout(30):
        await released.wait()
    assert execution.status is ExecutionStatus.COMPLETED


_ENDS = """
import atexit, os, threading, time
os.makedirs("outputs", exist_ok=True)
table = open("outputs/unclosed.csv", "w"); table.write("a,b\\n1,2\\n")
atexit.register(lambda: open("outputs/hook.txt", "w").write("bye"))
atexit.register(lambda: hand_back(1, "metric", "late", value=2.5))
threading.Thread(target=time.sleep, args=(600,), name="endless").start()
"""


async def test_what_is_written_at_the_end_of_the_kernel_is_kept_and_what_is_cut_is_told(
    scene: Stage,
) -> None:
    async with scene.worker(exit_seconds=2.0):
        execution = await scene.run(_HAND_BACK + _ENDS)
    assert execution.status is ExecutionStatus.COMPLETED
    kept = await left(scene, execution.id)
    texts = {
        name: await scene.content(execution.id, stored.content) for name, stored in kept.items()
    }
    assert texts == {"unclosed.csv": b"a,b\n1,2\n", "hook.txt": b"bye"}
    told = await scene.events(execution.id, Execution.MetricsLogged)
    assert [event.metrics for event in told] == [{"late": 2.5}]
    (warning,) = await scene.warnings(execution.id)
    assert "the thread 'endless'" in warning
