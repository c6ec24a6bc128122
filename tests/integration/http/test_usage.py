"""What a run uses: shown while it runs, and of the run and each cell after it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from support.api import Api, new_notebook
from support.read_models import catch_up
from support.shared_api import api, api_server

from nbledger_application import leases, repository
from nbledger_application.leases import Lease
from nbledger_domain.execution import CellStatus, Execution, Resources
from nbledger_infrastructure.postgres.event_store import Metadata

__all__ = ["api", "api_server"]

_AT = datetime.now(UTC)
_NOTHING = {
    "peakMemoryUsage": None,
    "cpuTime": None,
    "diskUsage": None,
    "peakMemoryBytes": None,
    "cpuSeconds": None,
    "diskBytes": None,
}


async def _started(api: Api, client: httpx.AsyncClient) -> str:
    notebook = await new_notebook(client, "x")
    path = f"/notebook/{notebook['notebookId']}"
    answer = await client.post(f"{path}/execute")
    path = f"{path}/execution/{answer.json()['executionId']}"
    await _record(api, path, lambda run: run.claim("w", at=_AT))
    await _record(
        api, path, lambda run: run.start(1, language="python", language_version="3", at=_AT)
    )
    await _record(api, path, lambda run: run.start_cell(1, "cell-001", at=_AT))
    assert await leases.take(api.pool, _lease(path), "w", seconds=60)
    return path


def _lease(path: str) -> Lease:
    return Lease(UUID(path[-36:]), 1)


async def _record(api: Api, path: str, step: Any) -> None:
    await repository.update(api.store, Execution, UUID(path[-36:]), step, Metadata(actor="worker"))


async def _tell(api: Api, path: str, usage: Resources | None) -> None:
    usages = {} if usage is None else {_lease(path).execution_id: usage}
    async with api.pool.acquire() as pooled:
        connection: Any = pooled
        assert await leases.renew(connection, "w", [_lease(path)], seconds=60, usages=usages)


async def _status(client: httpx.AsyncClient, path: str) -> tuple[dict[str, Any], str]:
    answer = await client.get(path)
    assert answer.status_code == 200
    return answer.json(), answer.headers["ETag"]


@pytest.mark.parametrize("projected", [False, True])
async def test_what_a_run_uses_is_shown_while_it_runs(api: Api, *, projected: bool) -> None:
    client = await api.client()
    path = await _started(api, client)
    if projected:
        await catch_up(api.pool)
    before, tag = await _status(client, path)
    assert before["resources"] == _NOTHING
    await _tell(
        api, path, Resources(peak_memory_bytes=2_300_000_000, cpu_seconds=510.0, disk_bytes=7)
    )
    now, later = await _status(client, path)
    assert later != tag
    assert now["resources"] == {
        "peakMemoryUsage": "2.3 GB",
        "cpuTime": "8.5 minutes",
        "diskUsage": "7 bytes",
        "peakMemoryBytes": 2_300_000_000,
        "cpuSeconds": 510.0,
        "diskBytes": 7,
    }
    assert {**now, "resources": None} == {**before, "resources": None}
    # A renewal without news changes nothing.
    await _tell(api, path, None)
    assert (await _status(client, path))[1] == later
    unchanged = await client.get(path, headers={"If-None-Match": later})
    assert unchanged.status_code == 304
    assert (await client.get(path, headers={"If-None-Match": tag})).status_code == 200


async def test_the_end_says_what_was_used_by_the_run_and_by_each_cell(
    api: Api,
) -> None:
    client = await api.client()
    path = await _started(api, client)
    await _tell(api, path, Resources(peak_memory_bytes=1, cpu_seconds=1.0, disk_bytes=1))
    used = Resources(peak_memory_bytes=450_000_000, cpu_seconds=0.25, disk_bytes=0)
    await _record(
        api,
        path,
        lambda run: run.finish_cell(
            1,
            "cell-001",
            status=CellStatus.SUCCESS,
            execution_count=1,
            duration=0.5,
            outputs=[],
            output_count=0,
            output_bytes=0,
            error=None,
            resources=used,
            at=_AT,
        ),
    )
    running, _ = await _status(client, path)
    assert running["cellResults"][0]["resources"]["peakMemoryUsage"] == "450 MB"
    assert running["cellResults"][0]["resources"]["cpuSeconds"] == 0.25
    assert running["resources"]["peakMemoryBytes"] == 1
    await _record(api, path, lambda run: run.complete(1, resources=used, at=_AT))
    # The lease goes a moment after the end: what it told counts no more.
    ended, tag = await _status(client, path)
    assert ended["resources"]["peakMemoryBytes"] == 450_000_000
    assert ".u" not in tag


async def test_another_attempt_begins_without_the_usage_of_the_last(
    api: Api,
) -> None:
    client = await api.client()
    path = await _started(api, client)
    await _tell(api, path, Resources(peak_memory_bytes=1, cpu_seconds=1.0, disk_bytes=1))
    again = Lease(_lease(path).execution_id, 2)
    assert await leases.take(api.pool, again, "w2", seconds=60)
    assert (await _status(client, path))[0]["resources"] == _NOTHING
