"""Who has read which history is recorded before it is answered."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from support.api import Api, new_notebook, unknown_id
from support.event_store import commits_held, wait_for_blocked
from support.shared_api import ServerThread, api, api_server

from nbledger_application.caller import Caller
from nbledger_application.commands.record_history_read import ReadRecorder
from nbledger_domain.vocabulary.addresses import ALL_PROJECTS
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.registry import READ_MODELS

__all__ = ["api", "api_server"]


async def reads(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/history-reads", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["reads"]
    return found


@pytest.mark.guarantee("G49")
async def test_each_way_of_reading_is_recorded(api: Api) -> None:
    editor = await api.client(Role.EDITOR)
    auditor, inspector = await api.client(Role.AUDITOR), await api.client(Role.ADMIN)
    notebook_id = (await new_notebook(editor, "a"))["notebookId"]
    path = f"/notebook/{notebook_id}"
    run = (await editor.post(f"{path}/execute")).json()["executionId"]
    began = datetime.now(UTC)
    for _ in range(3):
        answer = await auditor.get(f"{path}/history", headers={"X-Request-Id": "audit-1"})
        assert answer.status_code == 200
    assert (await auditor.get(f"{path}/execution/{run}/history")).status_code == 200
    assert (await auditor.get(f"{path}/schedule/history")).status_code == 200
    assert (await auditor.get(f"{path}/automatic-execution/history")).status_code == 200
    assert (await auditor.get("/events")).status_code == 200
    for after in (0, 1):
        export = await auditor.get(f"/events?format=jsonl&after={after}")
        assert export.status_code == 200
    async with auditor.stream("GET", "/events?format=sse") as answer:
        assert answer.status_code == 200
    # Who gets nothing has read nothing.
    assert (await auditor.get(f"/notebook/{unknown_id()}/history")).status_code == 404
    assert (await editor.get(f"{path}/history")).status_code == 403

    found = await reads(inspector)
    assert [(each["history"], each["subjectId"], each["manner"]) for each in found] == [
        ("notebook", notebook_id, "page"),
        ("execution", run, "page"),
        ("schedule", notebook_id, "page"),
        ("automation", notebook_id, "page"),
        ("project", None, "page"),
        ("project", None, "export"),
        ("project", None, "export"),
        ("project", None, "stream"),
    ]
    first = found[0]
    assert first["actor"] == "tester"
    assert first["requestId"] == "audit-1"
    assert first["projectId"] == str(api.project_id)
    at = datetime.fromisoformat(first["time"])
    assert began - timedelta(seconds=1) < at < datetime.now(UTC) + timedelta(seconds=1)
    assert datetime.fromisoformat(first["hour"]) == at.replace(minute=0, second=0, microsecond=0)
    whole, going_on = [each for each in found if each["manner"] == "export"]
    assert whole["after"] == 0
    assert whole["until"] > first["position"]
    assert going_on["after"] is going_on["until"] is None
    # Of one subject, of one reader, and newest first, in pages.
    assert await reads(inspector, subjectId=run) == [found[1]]
    assert await reads(inspector, actor="nobody") == []
    newest = await inspector.get("/history-reads?sort=-position&limit=2")
    assert newest.json()["reads"][0]["history"] == "reads"
    assert newest.json()["next"] == newest.json()["reads"][1]["position"]
    assert (await inspector.get("/history-reads?subjectId=x")).status_code == 422
    # They are events as others are: in the stream of all, and with salted digests in the log.
    events = (await auditor.get("/events?type=history&limit=1000")).json()["events"]
    assert [each["position"] for each in events][: len(found)] == [
        each["position"] for each in found
    ]
    assert all(each["salt"] and each["formula"] == 2 for each in events)


@pytest.mark.guarantee("G49")
async def test_reading_the_past_is_recorded_as_such(api: Api) -> None:
    """Beside that pages of the same history are read, and whatever the past is answered with."""
    editor, auditor = await api.client(Role.EDITOR), await api.client(Role.AUDITOR)
    await new_notebook(editor, "another")
    before = await api.store.head_position()
    notebook_id = (await new_notebook(editor, "a"))["notebookId"]
    path = f"/notebook/{notebook_id}"
    run = (await editor.post(f"{path}/execute")).json()["executionId"]
    table = {"file": ("a.csv", b"a\n1\n")}
    made = await editor.post("/dataset/csv", files=table)
    dataset_id = made.json()["datasetId"]
    head = await api.store.head_position()
    for _ in range(2):
        for query, status in ((f"asOf={head}", 200), (f"asOf={before}", 404)):
            for address in (path, f"{path}/execution/{run}", f"/dataset/{dataset_id}"):
                assert (await auditor.get(f"{address}?{query}")).status_code == status
    difference = await auditor.get(f"{path}/diff?from=1.0.0&to=1.0.0")
    assert difference.status_code == 200
    assert (await auditor.get(f"{path}/history")).status_code == 200
    told = [(each["history"], each["subjectId"], each["manner"]) for each in await reads(auditor)]
    assert told == [
        ("notebook", notebook_id, "past"),
        ("execution", run, "past"),
        ("dataset", dataset_id, "past"),
        ("notebook", notebook_id, "page"),
    ]


async def test_reading_all_of_a_tenant_is_recorded_there(api: Api) -> None:
    base = f"/audit/events/{api.tenant_id}"
    auditor = await api.client(Role.AUDITOR, base=base)
    assert (await auditor.get("?format=jsonl")).status_code == 200
    assert (await (await api.client()).get("/events")).status_code == 200
    everywhere = await api.client(Role.AUDITOR, base=f"/audit/history-reads/{api.tenant_id}")
    found = (await everywhere.get("")).json()["reads"]
    assert [(each["history"], each["projectId"]) for each in found] == [
        ("tenant", None),
        ("project", str(api.project_id)),
    ]
    some = await api.client(
        project_ids=[api.project_id], base=f"/audit/history-reads/{api.tenant_id}"
    )
    assert (await some.get("")).status_code == 403


async def test_whoever_polls_by_exports_comes_to_an_end(api: Api) -> None:
    """Going on from a position is recorded in the hour; from the beginning each time."""
    auditor = await api.client(Role.AUDITOR)

    async def export(after: int, **headers: str) -> tuple[list[str], int]:
        answer = await auditor.get(f"/events?format=jsonl&after={after}", headers=headers)
        *events, last = map(json.loads, answer.text.splitlines())
        return [each["type"] for each in events], last["end"]["position"]

    hour = datetime.now(UTC).hour
    await new_notebook(await api.client(Role.EDITOR), "a")
    told, end = await export(0)
    assert "notebook.created.v1" in told
    # It ended before the record of it. That of going on is told at once, and then no more.
    told, end = await export(end)
    assert told == ["history.read.v1"] * 2
    for _ in range(3):
        told, end = await export(end)
        assert told == [] or datetime.now(UTC).hour != hour
    told, _ = await export(0, **{"Last-Event-ID": str(end)})
    assert told == [] or datetime.now(UTC).hour != hour
    told, _ = await export(0)
    again, _ = await export(0)
    assert again[:-1] == told
    assert again[-1] == "history.read.v1"


@pytest.mark.guarantee("G49")
async def test_nothing_is_answered_before_it_is_recorded(
    api: Api, api_server: ServerThread
) -> None:
    """While no append can commit, no history is told: whoever is killed then has told nothing."""
    editor, auditor = await api.client(Role.EDITOR), await api.client(Role.AUDITOR)
    path = f"/notebook/{(await new_notebook(editor, 'a'))['notebookId']}"
    dsn = api_server.settings.postgres.dsn
    told: list[bytes] = []

    async def export() -> None:
        async with auditor.stream("GET", "/events?format=jsonl") as answer:
            told.extend([piece async for piece in answer.aiter_raw()])

    async with commits_held(dsn), asyncio.timeout(30):
        page = asyncio.create_task(auditor.get(f"{path}/history"))
        await wait_for_blocked(dsn)
        exporting = asyncio.create_task(export())
        done, _ = await asyncio.wait({page, exporting}, timeout=0.3)
        assert not done
        assert not told
    assert (await page).status_code == 200
    await exporting
    assert told
    assert [each["manner"] for each in await reads(auditor)] == ["page", "export"]


async def test_whoever_reads_on_is_recorded_once_an_hour_by_all_processes(api: Api) -> None:
    at = datetime(2024, 1, 20, 10, 59, tzinfo=UTC)
    moments = [at]
    recorders = [ReadRecorder(api.store, now=lambda: moments[0]) for _ in range(3)]
    principal = str(uuid4())

    def caller(actor: str = principal, project_id: UUID = api.project_id) -> Caller:
        return Caller(actor, frozenset({Role.AUDITOR}), api.tenant_id, project_id, "r")

    async def recorded() -> int:
        async with api.pool.acquire() as connection:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM event WHERE type = 'history.read.v1' AND tenant_id = $1",
                api.tenant_id,
            )
        return count

    subject = uuid4()
    async with asyncio.TaskGroup() as tasks:
        for recorder in recorders * 5:
            tasks.create_task(recorder.record(caller(), "notebook", subject))
    assert await recorded() == 1
    moments[0] = at + timedelta(minutes=1)
    await recorders[0].record(caller(), "notebook", subject)
    assert await recorded() == 2
    await recorders[0].record(caller(), "notebook", uuid4())
    await recorders[0].record(caller(), "execution", subject)
    await recorders[0].record(caller(), "notebook", subject, "past")
    await recorders[0].record(caller(str(uuid4())), "notebook", subject)
    await recorders[0].record(caller(project_id=ALL_PROJECTS), "notebook", subject)
    assert await recorded() == 7
    for _ in range(2):
        await recorders[0].record(caller(), "project", None, "export", after=0, until=7)
    assert await recorded() == 9
    for recorder in recorders:
        await recorder.record(caller(), "project", None, "export")
    assert await recorded() == 10


async def test_who_reads_histories_sees_how_far_the_consumers_are(api: Api) -> None:
    base = f"/audit/consumers/{api.tenant_id}"
    auditor = await api.client(Role.AUDITOR, base=base)
    told = (await auditor.get("")).json()
    assert told["position"] >= 0
    projections = [each["name"] for each in told["consumers"] if each["kind"] == "projection"]
    assert projections == list(READ_MODELS)
    for each in told["consumers"]:
        assert each["state"] == "live"
        assert each["lagEvents"] == told["position"] - each["position"]
    assert (await (await api.client(Role.ADMIN, base=base)).get("")).status_code == 200
    assert (await (await api.client(Role.EDITOR, base=base)).get("")).status_code == 403
    some = await api.client(Role.AUDITOR, project_ids=[api.project_id], base=base)
    assert (await some.get("")).status_code == 403
    assert (await api.anonymous(base=base).get("")).status_code == 401
