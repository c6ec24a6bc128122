"""An artifact store that is away, refuses or is full: what is said of it, and what runs do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
import pytest_asyncio
from support.api import new_notebook, running_api, settings_for
from support.executions import SEES_FILES, Stage, eventually, make_settings, stage
from support.proxy import Proxy, proxy_to
from support.s3 import FULL, S3Server, needs_s3, s3_server, s3_variables

from nbledger_domain.execution import CellStatus, Execution, ExecutionStatus, TerminationCode
from nbledger_infrastructure.artifacts import health as artifact_health
from nbledger_infrastructure.artifacts import store as artifact_store
from nbledger_infrastructure.artifacts.health import ArtifactHealth
from nbledger_infrastructure.artifacts.store import (
    ArtifactStore,
    ArtifactStoreUnavailableError,
    Scope,
    open_store,
)
from nbledger_infrastructure.settings import Artifacts, Settings
from nbledger_workers.storing.spool import Spool
from nbledger_workers.translation.steps import Translator

pytestmark = [needs_s3, pytest.mark.stalls("its leases last a few seconds of the clock")]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer is given up early, and a good one asked again soon."""
    monkeypatch.setattr(artifact_store, "ANSWER_TIMEOUT", 1.5)
    monkeypatch.setattr(artifact_health, "GOOD_SECONDS", 1.0)


@pytest_asyncio.fixture(loop_scope="module")
async def way(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """The way to the server, which clients of this process take."""
    async with proxy_to(server.host, server.port) as proxy:
        for name, value in s3_variables(proxy.port).items():
            monkeypatch.setenv(name, value)
        yield proxy
        proxy.answer = None
        proxy.flow()


async def close_way(proxy: Proxy, how: str) -> None:
    if how == "stalled":
        proxy.stall()
    elif how == "refusing":
        await proxy.refuse()
    else:
        proxy.answer = FULL
        await proxy.cut()


async def open_way(proxy: Proxy, how: str) -> None:
    if how == "stalled":
        proxy.flow()
    elif how == "refusing":
        await proxy.start()
    else:
        proxy.answer = None


def s3(bucket: str) -> str:
    return f"s3://{bucket}/prefix"


# What is said of a store


async def wrong_with(url: str) -> str:
    with pytest.raises(ArtifactStoreUnavailableError) as found:
        await ArtifactStore(open_store(url)).check()
    reason = found.value.reason
    assert "127.0.0.1" not in reason
    assert "/" not in reason
    return reason


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("stalled", "it does not answer in time"),
        ("refusing", "it refuses connections"),
        ("full", "507 Insufficient Storage: XStorageFull: The storage backend has no room."),
    ],
)
async def test_a_store_is_checked_by_using_it(
    server: S3Server, way: Proxy, how: str, said: str
) -> None:
    url = s3(server.new_bucket())
    store = ArtifactStore(open_store(url))
    await store.check()
    assert await store.delete_all(Scope(uuid4(), uuid4(), uuid4())) == 0
    await close_way(way, how)
    assert await wrong_with(url) == f"it cannot be written: {said}"
    with pytest.raises(ArtifactStoreUnavailableError):
        await store.find(Scope(uuid4(), uuid4(), uuid4()), "0" * 64)
    await open_way(way, how)
    await store.check()


async def test_a_bucket_that_is_missing_and_credentials_that_are_wrong(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_variables(server.port).items():
        monkeypatch.setenv(name, value)
    told = "404 Not Found: NoSuchBucket: The specified bucket does not exist"
    assert await wrong_with(s3("missing")) == f"it cannot be written: {told}"
    store = ArtifactStore(open_store(s3("missing")))
    with pytest.raises(ArtifactStoreUnavailableError, match="NoSuchBucket"):
        await store.get(Scope(uuid4(), uuid4(), uuid4()), "0" * 64)
    with s3_server(strict_after=1) as strict:
        bucket = strict.new_bucket()
        for name, value in s3_variables(strict.port, key="wrong").items():
            monkeypatch.setenv(name, value)
        assert "403 Forbidden: InvalidAccessKeyId" in await wrong_with(s3(bucket))


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at the folder."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_folder_that_is_full_or_read_only(tmp_path: Path) -> None:
    with small_disk(tmp_path / "full", "size=64k") as folder:
        store = ArtifactStore(open_store(folder.as_uri()))
        await store.check()
        with pytest.raises(ArtifactStoreUnavailableError) as found:
            await store.put(Scope(uuid4(), uuid4(), uuid4()), b"x" * 1_000_000)
        assert found.value.reason == "No space left on device"
    with small_disk(tmp_path / "fixed", "size=64k,ro") as folder:
        assert await wrong_with(folder.as_uri()) == ("it cannot be written: Read-only file system")


async def test_health_asks_a_store_now_and_then_only(tmp_path: Path) -> None:
    store = ArtifactStore(open_store((tmp_path / "kept").as_uri()))
    health = ArtifactHealth(store)
    assert [await health.problem() for _ in range(3)] == [None] * 3
    made = list((tmp_path / "kept").rglob("*"))
    assert [path for path in made if path.is_file()] == []
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="exists"):
        open_store(blocked.as_uri())


# What waits for it


async def test_what_a_run_puts_out_waits_in_order_and_within_its_bound(tmp_path: Path) -> None:
    url, place = (tmp_path / "kept").as_uri(), tmp_path / "kept"
    store = ArtifactStore(open_store(url))
    scope = Scope(uuid4(), uuid4(), uuid4())
    spool = Spool(store, lambda: tmp_path, max_bytes=250, seconds=60, on_failed=lambda: None)
    place.rmdir()
    place.write_text("in the way")
    digests = [f"{number:064x}" for number in range(4)]
    for digest in digests[:2]:
        await spool.put(scope, b"x" * 100, digest=digest)
    await spool.put_joined(scope, digests[2], digests[:2])
    late = asyncio.create_task(spool.put(scope, b"y" * 100, digest=digests[3]))
    settling = asyncio.create_task(spool.settle())
    await asyncio.sleep(0.3)
    assert not late.done()
    assert not settling.done()
    place.unlink()
    async with asyncio.timeout(30):
        await asyncio.gather(late, settling)
        await spool.settle()
    assert await store.get(scope, digests[2]) == b"x" * 200
    assert await store.get(scope, digests[3]) == b"y" * 100
    await spool.close()
    assert os.listdir(tmp_path) == ["kept"]  # noqa: PTH208 - a call that waits for nothing


async def test_what_waits_and_cannot_be_read_any_more_is_lost_and_holds_up_nobody(
    tmp_path: Path,
) -> None:
    place, lost = tmp_path / "kept", asyncio.Event()
    store = ArtifactStore(open_store(place.as_uri()))
    scope = Scope(uuid4(), uuid4(), uuid4())
    spool = Spool(store, lambda: tmp_path, max_bytes=250, seconds=60, on_failed=lost.set)
    place.rmdir()
    place.write_text("in the way")
    await spool.put(scope, b"x" * 100, digest="1" * 64)
    (waiting,) = await asyncio.to_thread(lambda: list(tmp_path.glob("spool-*/*")))
    waiting.unlink()
    async with asyncio.timeout(30):
        await spool.settle()
    assert lost.is_set()
    assert spool.is_lost("1" * 64)
    assert "cannot be read" in str(spool.failure)
    await spool.close()


# Runs


@pytest.fixture
def config(
    database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path, server: S3Server
) -> Settings:
    made = make_settings(database_dsn, kafka, topic_prefix, tmp_path)
    return msgspec.structs.replace(made, artifacts=Artifacts(url=s3(server.new_bucket())))


def cells(folder: Path) -> list[str]:
    """One that waits for the test, and one that hands back a file."""
    first = f"""
import pathlib, time
folder = pathlib.Path({str(folder)!r})
(folder / "begun").touch()
while not (folder / "go").exists(): time.sleep(0.02)
print("first")
"""
    second = """
pathlib.Path("outputs").mkdir(exist_ok=True)
pathlib.Path("outputs/table.csv").write_text("a,b\\n1,2\\n")
print("second")
(folder / "over").touch()
"""
    return [first, second]


async def begin(scene: Stage, folder: Path) -> Any:
    execution_id = await scene.request(*cells(folder))
    await scene.command(execution_id)
    await eventually((folder / "begun").exists)
    return execution_id


@pytest.mark.guarantee("G17")
@pytest.mark.parametrize("how", ["stalled", "refusing", "full"])
async def test_outputs_wait_for_a_store_that_is_away(
    config: Settings, tmp_path: Path, way: Proxy, how: str
) -> None:
    async with stage(config) as scene, scene.worker(**SEES_FILES):
        execution_id = await begin(scene, tmp_path)
        await close_way(way, how)
        (tmp_path / "go").touch()
        # Both cells run to their ends meanwhile.
        await eventually((tmp_path / "over").exists)
        await asyncio.sleep(1)
        assert "cell-executed" not in await scene.types(execution_id)
        await open_way(way, how)
        execution = await scene.until(execution_id, seconds=60)
        assert execution.status is ExecutionStatus.COMPLETED
        store = ArtifactStore(open_store(config.artifacts.url))
        kept = await scene.events(execution_id, Execution.CellExecuted)
        scope = Scope(scene.tenant_id, scene.project_id, execution.notebook_id)
        texts = [
            await store.get(scope, output.representations[0].digest)
            for cell in kept
            for output in cell.outputs
        ]
        assert texts == [b"first\n", b"second\n"]
        (file,) = await scene.events(execution_id, Execution.ArtifactStored)
        assert await store.get(scope, file.content.digest) == b"a,b\n1,2\n"
        assert "warned" not in await scene.types(execution_id)
    assert not list((tmp_path / "work").rglob("spool-*"))


@pytest.mark.guarantee("G17")
@pytest.mark.parametrize("how", ["stalled", "refusing", "full"])
async def test_a_run_that_cannot_be_kept_says_so(
    config: Settings, tmp_path: Path, way: Proxy, how: str
) -> None:
    short = msgspec.structs.replace(config.artifacts, unavailable_seconds=0.5)
    config = msgspec.structs.replace(config, artifacts=short)
    async with stage(config) as scene, scene.worker(**SEES_FILES):
        execution_id = await begin(scene, tmp_path)
        await close_way(way, how)
        (tmp_path / "go").touch()
        execution = await scene.until(execution_id, seconds=60)
        assert execution.termination_code is TerminationCode.ARTIFACT_STORE_UNAVAILABLE
        reasons = {
            "stalled": "it does not answer in time",
            "refusing": "it refuses connections",
            "full": "XStorageFull",
        }
        (ended,) = await scene.events(execution_id, Execution.Failed)
        assert reasons[how] in ended.detail
        # What the cells did stays true; what is lost of it is told.
        assert set(execution.cell_statuses.values()) == {CellStatus.SUCCESS}
        lost = await scene.events(execution_id, Execution.OutputTruncated)
        assert {(each.cell_id, each.kept_bytes) for each in lost} >= {("cell-001", 0)}
        assert all(
            not cell.outputs for cell in await scene.events(execution_id, Execution.CellExecuted)
        )


async def test_a_worker_takes_nothing_before_its_store_can_be_used(
    config: Settings, tmp_path: Path, way: Proxy
) -> None:
    await close_way(way, "refusing")
    async with stage(config) as scene, scene.worker(wait=False, **SEES_FILES) as ready:
        execution_id = await scene.request("1")
        await scene.command(execution_id)
        await asyncio.sleep(1.5)
        assert not ready.is_set()
        assert await scene.types(execution_id) == ["requested"]
        await open_way(way, "refusing")
        execution = await scene.until(execution_id, seconds=60)
        assert execution.status is ExecutionStatus.COMPLETED


async def test_the_detail_of_an_internal_error_is_for_people(
    config: Settings, tmp_path: Path, way: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    del way

    async def fail(*_: object) -> None:
        raise ExceptionGroup("several", [ValueError("one")])

    monkeypatch.setattr(Translator, "steps", fail)
    async with stage(config) as scene, scene.worker(**SEES_FILES):
        execution_id = await scene.request("1")
        await scene.command(execution_id)
        execution = await scene.until(execution_id)
        assert execution.termination_code is TerminationCode.INTERNAL_ERROR
        (ended,) = await scene.events(execution_id, Execution.Failed)
        assert "Error" not in ended.detail
        assert "Group" not in ended.detail
        assert "log has the cause under the reference" in ended.detail


# The API


async def test_requests_for_files_are_503_while_the_store_is_away(
    database_dsn: str, tmp_path: Path, server: S3Server, way: Proxy
) -> None:
    made = settings_for(database_dsn, tmp_path / "unused")
    settings = msgspec.structs.replace(made, artifacts=Artifacts(url=s3(server.new_bucket())))
    table = b"order,amount\n" + b"0017,120\n" * 300_000
    async with running_api(settings) as api:
        client = await api.client()
        uploaded = await client.post("/dataset/csv", files={"file": ("o.csv", table)})
        assert uploaded.status_code == 201, uploaded.text
        dataset = uploaded.json()["datasetId"]
        path = f"/dataset/{dataset}/download"
        assert (await client.get(path)).status_code == 200
        for how in ("refusing", "full", "stalled"):
            await close_way(way, how)
            for asked in (
                client.get(path),
                client.post("/dataset/csv", files={"file": ("o.csv", table)}),
            ):
                answer = await asked
                assert answer.status_code == 503, (how, answer.text)
                assert answer.headers["retry-after"]
                assert answer.json()["code"] == "unavailable"
                assert "artifact store" in answer.json()["detail"]
            await open_way(way, how)
            assert (await client.get(path)).status_code == 200
        # What does not need the store works all the time.
        await close_way(way, "refusing")
        await new_notebook(client, "x")
        # The last good answer of the check may hold for a while.
        async with asyncio.timeout(40):
            while (ready := await api.anonymous().get("/health/ready")).status_code == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        assert ready.json()["missing"] == [
            "artifact store: it cannot be written: it refuses connections"
        ]


async def test_a_download_that_breaks_off_does_not_look_whole(
    database_dsn: str, tmp_path: Path, server: S3Server, way: Proxy
) -> None:
    made = settings_for(database_dsn, tmp_path / "unused")
    settings = msgspec.structs.replace(made, artifacts=Artifacts(url=s3(server.new_bucket())))
    async with running_api(settings) as api:
        client = await api.client()
        rows = b"".join(os.urandom(8).hex().encode() + b",1\n" for _ in range(400_000))
        uploaded = await client.post(
            "/dataset/csv", files={"file": ("o.csv", b"order,amount\n" + rows)}
        )
        path = f"/dataset/{uploaded.json()['datasetId']}/download?format=parquet"
        assert len((await client.get(path)).content) > 2_000_000
        await way.cut()
        way.break_after = 1_500_000
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(path)
