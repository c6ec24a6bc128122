"""Notices over HTTP: listed by kind and page, and shown where people look."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from support.api import Api, new_notebook
from support.notices import Ahead, Runs, manager, tick
from support.read_models import catch_up
from support.schedules import CALLER, SetClock, scheduler
from support.shared_api import api, api_server

from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.read_models import notices

__all__ = ["api", "api_server"]


@pytest.mark.guarantee("G20")
async def test_they_are_listed_and_shown_where_people_look(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    now = Ahead()
    telling = manager(api.pool, api.store, now)
    made = await new_notebook(client, "1", integration={"scheduleExecution": "0 2 * * *"})
    caller = msgspec.structs.replace(CALLER, tenant_id=api.tenant_id, project_id=api.project_id)
    runs = Runs(api.store, UUID(made["notebookId"]), caller=caller)
    path = f"/notebook/{runs.notebook_id}"
    await scheduler(api.pool, api.store, SetClock()).tick()
    assert "failing" not in (await client.get(f"{path}/schedule")).json()
    await runs.completed(1, 1, 1, 1, 1)
    slow = await runs.begin()
    first = await runs.failed()
    await tick(telling)
    before = await client.get(f"{path}/execution/{slow}")
    assert "durationWarning" not in before.json()
    failing = (await client.get(f"{path}/schedule")).json()["failing"]
    assert (failing["failures"], failing["told"]) == (1, False)
    _, last = await runs.failed(), await runs.failed()
    now.step(60)
    await tick(telling)
    await tick(telling)

    after = await client.get(
        f"{path}/execution/{slow}", headers={"If-None-Match": before.headers["etag"]}
    )
    assert after.status_code == 200, "it is another state"
    warning = after.json()["durationWarning"]
    assert warning["usual"]["runs"] == 5
    assert warning["usual"]["highSeconds"] == pytest.approx(1, abs=1)
    assert warning["thresholdSeconds"] == 5.0
    assert warning["seconds"] > 5
    (line,) = after.json()["runWarnings"]
    assert line.startswith("The run takes longer than usual: more than 5.0 seconds (")
    failing = (await client.get(f"{path}/schedule")).json()["failing"]
    assert failing == {
        "failures": 3,
        "since": failing["since"],
        "firstExecutionId": str(first),
        "lastExecutionId": str(last),
        "terminationCode": "cell_error",
        "told": True,
    }

    await catch_up(api.pool, notices.NAME)
    listed = (await client.get("/notices")).json()
    assert [each["kind"] for each in listed["notices"]] == ["scheduleFailing", "runSlow"]
    assert (listed["totalCount"], listed["hasNextPage"]) == (2, False)
    found = listed["notices"][1]
    assert (found["executionId"], found["notebookId"]) == (str(slow), made["notebookId"])
    only = (await client.get("/notices?kind=runSlow&pageSize=1")).json()
    assert only["notices"] == [found]
    assert (await client.get("/notices?kind=kernelUnavailable")).json()["notices"] == []
    assert (await client.get("/notices?kind=other")).status_code == 422
    auditor = await api.client(Role.AUDITOR)
    history = (await auditor.get(f"{path}/history?executions=true&limit=1000")).json()
    told = [each["type"] for each in history["events"] if each["type"].startswith("notice.")]
    assert sorted(told) == ["notice.run-slow.v1", "notice.schedule-failing.v1"]
    await runs.end(slow)
    assert "durationWarning" in (await client.get(f"{path}/execution/{slow}")).json()


async def test_a_kernel_type_without_workers_is_shown_to_whom_it_concerns(api: Api) -> None:
    client = await api.client(Role.READER)
    assert (await client.get("/kernels")).json()["withoutWorkers"] == []
    caller = msgspec.structs.replace(CALLER, tenant_id=api.tenant_id, project_id=api.project_id)
    editor = await api.client(Role.EDITOR)
    made = await new_notebook(editor, "1")
    runs = Runs(api.store, UUID(made["notebookId"]), caller=caller, kernel_type="scala")
    for _ in range(2):
        await runs.ask()
    (missing,) = (await client.get("/kernels")).json()["withoutWorkers"]
    assert (missing["kernelType"], missing["waiting"]) == ("scala", 2)
    project = f"/api/{api.tenant_id}/{UUID(int=1)}"
    elsewhere = await api.client(Role.READER, base=project)
    assert (await elsewhere.get("/kernels")).json()["withoutWorkers"] == []
    assert (await elsewhere.get("/notices")).json()["notices"] == []
