"""What the API tells of runs that wait, and when it lets no more of them in."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from support.api import Api, new_notebook, running_api, settings_for

from nbledger_application import queue, queue_places, repository
from nbledger_domain.execution import Execution, Resources
from nbledger_infrastructure import clock, settings
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.event_store import Metadata
from nbledger_infrastructure.postgres.worker_registry import WorkerOffer

BY_WORKER = Metadata(actor="worker:w1")


async def claimed(api: Api, execution_id: str) -> None:
    """Let a worker have it."""
    await repository.update(
        api.store,
        Execution,
        UUID(execution_id),
        lambda execution: execution.claim("w1", at=clock.now()),
        BY_WORKER,
    )


@pytest.mark.guarantee("G32")
async def test_a_run_that_waits_tells_where_it_stands_and_why(
    database_dsn: str, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(
        settings_for(database_dsn, tmp_path),
        execution=settings.Executions(queue_without_worker=True),
        queue=settings.Queue(max_running_per_project=2, max_running_per_tenant=3),
    )
    async with running_api(config) as api:
        client = await api.client()
        notebook = await new_notebook(client, "x", integration={"maxConcurrentRuns": 1})
        assert notebook["integration"]["maxConcurrentRuns"] == 1
        path = f"/notebook/{notebook['notebookId']}"
        runs = [
            f"{path}/execution/{(await client.post(f'{path}/execute')).json()['executionId']}"
            for _ in range(3)
        ]

        async def told(run: str) -> tuple[int, str]:
            found = (await client.get(run)).json()["queue"]
            assert found["since"].endswith("Z")
            return found["position"], found["reason"]

        assert [await told(run) for run in runs] == [(n, "noWorker") for n in (1, 2, 3)]
        offer = WorkerOffer("python3", "python3", "python", "3.11.7")
        await worker_registry.heartbeat(api.pool, "w1", [offer], capacity=2)
        assert [await told(run) for run in runs] == [
            (1, "starting"),
            (2, "starting"),
            (3, "noSlot"),
        ]

        # The tag is another one when the place is, and a date tells nothing of it.
        before = await client.get(runs[2])
        same = {"If-None-Match": before.headers["etag"]}
        assert (await client.get(runs[2], headers=same)).status_code == 304
        await claimed(api, runs[0].rpartition("/")[2])
        moved = await client.get(runs[2], headers=same)
        assert moved.status_code == 200
        assert moved.json()["queue"]["position"] == 2
        since = {"If-Modified-Since": before.headers["last-modified"]}
        assert (await client.get(runs[2], headers=since)).status_code == 200
        assert await told(runs[1]) == (1, "notebookLimit")
        assert "queue" not in (await client.get(runs[0])).json()

        # The limit goes with the settings; that of the project comes next.
        await client.put(path, json={"integration": {"maxConcurrentRuns": None}})
        changed = (await client.get(path)).json()
        assert "maxConcurrentRuns" not in changed["integration"]
        assert await told(runs[1]) == (1, "starting")
        await claimed(api, runs[1].rpartition("/")[2])
        assert await told(runs[2]) == (1, "projectLimit")
        place = await queue_places.find(
            api.pool, UUID(runs[2].rpartition("/")[2]), queue.ShareLimits(tenant=2)
        )
        assert place is not None
        assert place.reason == "tenantLimit"
        assert place.seconds is None

        # How long runs take is known once one has ended.
        for run in runs[:2]:
            await repository.update(
                api.store,
                Execution,
                UUID(run.rpartition("/")[2]),
                lambda execution: execution.cancel(1, resources=Resources(), at=clock.now()),
                BY_WORKER,
            )
        assert await told(runs[2]) == (1, "starting")
        assert (await client.get(runs[2])).json()["queue"]["estimatedWaitSeconds"] == 0.0
        wrong = await client.put(path, json={"integration": {"maxConcurrentRuns": 0}})
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["pointer"] == "/integration/maxConcurrentRuns"


@pytest.mark.guarantee("G32")
async def test_no_more_wait_than_may(database_dsn: str, tmp_path: Path) -> None:
    config = msgspec.structs.replace(
        settings_for(database_dsn, tmp_path),
        execution=settings.Executions(queue_without_worker=True),
        queue=settings.Queue(max_waiting_per_project=2, max_waiting_per_tenant=3),
    )
    async with running_api(config) as api:
        client = await api.client()
        notebook = await new_notebook(client, "x")
        path = f"/notebook/{notebook['notebookId']}"
        first = (await client.post(f"{path}/execute")).json()
        assert (await client.post(f"{path}/execute")).status_code == 202
        refused = await client.post(f"{path}/execute")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        problem = refused.json()
        assert (problem["code"], problem["limit"]) == ("queue_full", "maxWaitingPerProject")
        listed = (await client.get(f"{path}/executions")).json()
        assert listed["totalCount"] <= 2, "what is refused leaves nothing behind"
        cancelled = await client.post(f"{path}/execution/{first['executionId']}/cancel")
        assert cancelled.status_code == 202
        assert (await client.post(f"{path}/execute")).status_code == 202
