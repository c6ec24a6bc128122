"""Histories: before and after, filters, order, causes, and what is told of erased events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from support.api import Api, new_notebook, unknown_id
from support.event_store import METADATA, new_event
from support.shared_api import api, api_server

from nbledger_application import repository
from nbledger_domain.execution import Execution, Resources
from nbledger_infrastructure.postgres import principals
from nbledger_infrastructure.postgres.event_store import Metadata, NewEvent, Stream
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.read_models.histories import changes

__all__ = ["api", "api_server"]


async def told(client: httpx.AsyncClient, path: str, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


def fields(event: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What an event has changed: before and after by field."""
    return {each["field"]: (each.get("before"), each.get("after")) for each in event["changes"]}


@pytest.mark.guarantee("G48")
async def test_each_change_is_told_with_before_and_after(api: Api) -> None:
    editor, auditor = await api.client(Role.EDITOR), await api.client(Role.AUDITOR)
    notebook = await new_notebook(editor, "a = 1", "b = 2")
    path = f"/notebook/{notebook['notebookId']}"
    cells = notebook["cells"]
    cells[1]["content"] = "b = 3"
    changed = {"notebookName": "M", "notebookDescription": "d", "cells": cells[::-1]}
    answer = await editor.put(path, json=changed, headers={"X-Request-Id": "r-17"})
    assert answer.status_code == 200, answer.text

    events = await told(auditor, f"{path}/history")
    created, *others = events
    assert created["type"] == "notebook.created.v1"
    assert fields(created)["/name"] == (None, "N")
    assert {each["kind"] for each in created["changes"]} == {"added"}
    by_type = {each["type"]: each for each in others}
    assert fields(by_type["notebook.renamed.v1"]) == {"/name": ("N", "M")}
    assert fields(by_type["notebook.described.v1"]) == {"/description": ("", "d")}
    assert fields(by_type["notebook.version-bumped.v1"]) == {"/notebookVersion": ("1.0.0", "1.1.0")}
    updated = fields(by_type["notebook.cells-updated.v1"])
    assert updated["/cells/cell-002/source"] == ("b = 2", "b = 3")
    assert updated["/cells"] == (["cell-001", "cell-002"], ["cell-002", "cell-001"])
    assert "/cells/cell-001/source" not in updated
    for event in others:
        assert event["requestId"] == event["correlationId"] == "r-17"
        assert event["cause"] == {"kind": "request", "ids": {"requestId": "r-17"}}
        assert event["actor"] == "tester"
        assert str(UUID(event["actorId"])) == event["actorId"]
    # A page that begins later tells the same of its events.
    later = await told(auditor, f"{path}/history", after=created["position"])
    assert later == others
    assert await told(auditor, f"{path}/history", sort="-position") == events[::-1]


async def test_large_values_are_shortened_and_say_so(api: Api) -> None:
    admin = await api.client()
    text = "x = 1\n" * 2000
    notebook = await new_notebook(admin, text, *["y"] * 3)
    path = f"/notebook/{notebook['notebookId']}"
    cells = notebook["cells"]
    cells[0]["content"] = text + "changed = True"
    assert (await admin.put(path, json={"cells": cells})).status_code == 200
    created, updated, _ = await told(admin, f"{path}/history")
    (source,) = [each for each in created["changes"] if each["field"] == "/cells/cell-001/source"]
    assert source["after"] == text[:1000]
    assert source["shortened"] == {"afterBytes": len(text) + text.count("\n") + 2}
    (source,) = [each for each in updated["changes"] if each["field"] == "/cells/cell-001/source"]
    assert source["shortened"]["offset"] == len(text) - 100
    assert source["after"].endswith("changed = True")
    assert created["data"]["cells"][0]["source"] == text


async def test_histories_are_filtered_by_type_time_and_actor(api: Api) -> None:
    editor, auditor = await api.client(Role.EDITOR), await api.client(Role.AUDITOR)
    notebook = await new_notebook(editor, "a")
    path = f"/notebook/{notebook['notebookId']}"
    for name in ("one", "two", "three"):
        await editor.put(path, json={"notebookName": name})
    events = await told(auditor, f"{path}/history")
    renamed = [each for each in events if each["type"] == "notebook.renamed.v1"]

    assert await told(auditor, f"{path}/history", type="notebook.renamed") == renamed
    assert await told(auditor, f"{path}/history", type="notebook.renamed.v1,execution") == renamed
    assert await told(auditor, f"{path}/history", actor="tester") == events
    assert await told(auditor, f"{path}/history", actor=events[0]["actorId"]) == events
    assert await told(auditor, f"{path}/history", actor="nobody,scheduler") == []
    moment = renamed[1]["recordedAt"]
    since = await told(auditor, f"{path}/history", **{"from": moment})
    until = await told(auditor, f"{path}/history", to=moment)
    assert until + since == events
    assert renamed[1] in since
    assert renamed[0] in until
    assert await told(auditor, f"{path}/history", **{"from": "2999-01-01T00:00:00Z"}) == []
    # Pages in either order, of what the filter lets through.
    for sort, cursor in (("position", "after"), ("-position", "before")):
        pages: list[Any] = []
        query: dict[str, Any] = {"type": "notebook.renamed", "sort": sort, "limit": 1}
        for _ in range(3):
            page = (await auditor.get(f"{path}/history", params=query)).json()
            pages += page["events"]
            query[cursor] = page["next"]
        assert query[cursor] is None
        assert pages == (renamed if sort == "position" else renamed[::-1])
    for wrong in ("type=notebook.renamd", "type=NOTEBOOK", "type=a,,b", "from=now", "sort=time"):
        answer = await auditor.get(f"{path}/history?{wrong}")
        assert answer.status_code == 422, wrong
    hint = (await auditor.get(f"{path}/history?type=notebook.renamd.v1")).text
    assert "did you mean notebook.renamed.v1?" in hint


async def test_causes_lead_to_the_event_before(api: Api) -> None:
    admin = await api.client()
    notebook = await new_notebook(admin, "a")
    path = f"/notebook/{notebook['notebookId']}"
    run = (await admin.post(f"{path}/execute")).json()["executionId"]
    execution = f"{path}/execution/{run}"
    (requested,) = await told(admin, f"{execution}/history")

    def claim(aggregate: Execution) -> None:
        aggregate.claim("w", at=datetime.now(UTC))

    metadata = Metadata(actor="worker:w", causation_id=requested["eventId"])
    await repository.update(api.store, Execution, UUID(run), claim, metadata)
    _, claimed = await told(admin, f"{execution}/history")
    assert claimed["cause"] == {
        "kind": "event",
        "ids": {
            "eventId": requested["eventId"],
            "eventType": "execution.requested.v1",
            "streamId": run,
            "position": requested["position"],
        },
    }
    changed = fields(claimed)
    assert changed == {"/phase": ("Queued", "Starting"), "/epoch": (0, 1), "/workerId": (None, "w")}

    def fail(aggregate: Execution) -> None:
        aggregate.complete(1, resources=Resources(), at=datetime.now(UTC))

    await repository.update(api.store, Execution, UUID(run), fail, metadata)
    rerun = await admin.post(f"{execution}/rerun")
    assert rerun.status_code == 202, rerun.text
    again = rerun.json()["executionId"]
    (asked,) = await told(admin, f"{path}/execution/{again}/history")
    assert asked["cause"]["kind"] == "rerun"
    assert asked["cause"]["ids"]["executionId"] == run
    assert asked["cause"]["ids"]["requestId"] == asked["requestId"]
    everything = await told(admin, f"{path}/history", executions=True, limit=1000)
    assert claimed in everything


async def test_of_erased_events_it_is_told_when_and_by_whom(api: Api) -> None:
    editor, auditor = await api.client(Role.EDITOR), await api.client(Role.AUDITOR)
    notebook = await new_notebook(editor, "secret")
    path = f"/notebook/{notebook['notebookId']}"
    assert (await editor.delete(path)).status_code == 204
    before = datetime.now(UTC)
    await api.store.erase_subject(UUID(notebook["notebookId"]))
    events = await told(auditor, f"{path}/history")
    (asked,) = [each for each in events if each["type"] == "notebook.deleted.v1"]
    for event in events:
        assert event["erased"]
        assert event["data"] is event["changes"] is event["salt"] is None
        erasure = event["erasure"]
        assert erasure["actor"] == "tester"
        assert erasure["actorId"] == asked["actorId"]
        assert erasure["position"] == asked["position"]
        at = datetime.fromisoformat(erasure["at"])
        assert abs(at - before) < timedelta(minutes=1)
    await principals.erase(api.pool, UUID(asked["actorId"]))
    fresh = principals.Names(api.pool)
    assert await fresh.of(api.tenant_id, [asked["actorId"]]) == {asked["actorId"]: asked["actorId"]}


async def test_schedules_and_automatic_execution_have_histories(api: Api) -> None:
    admin = await api.client()
    notebook = await new_notebook(admin, "a")
    path = f"/notebook/{notebook['notebookId']}"
    for part in ("schedule", "automatic-execution"):
        assert await told(admin, f"{path}/{part}/history") == []
        answer = await admin.get(f"/notebook/{unknown_id()}/{part}/history")
        assert answer.status_code == 404
    settings = {"integration": {"scheduleExecution": "0 3 * * *"}}
    assert (await admin.put(path, json=settings)).status_code == 200
    settings = {"integration": {"scheduleExecution": "0 4 * * *"}}
    assert (await admin.put(path, json=settings)).status_code == 200
    paused = await admin.post(f"{path}/schedule/pause", json={"note": "holidays"})
    assert paused.status_code == 200, paused.text
    events = await told(admin, f"{path}/schedule/history", type="schedule.paused")
    (pause,) = events
    assert fields(pause) == {
        "/state": ("active", "paused"),
        "/pauseReason": (None, "requested"),
        "/note": (None, "holidays"),
    }


async def test_an_event_that_cannot_be_applied_is_told_all_the_same(api: Api) -> None:
    auditor = await api.client(Role.AUDITOR)
    stream_id = uuid4()
    stream = Stream(stream_id, stream_id, api.tenant_id, api.project_id)
    events = [
        new_event(b'{"name": "n"}', "dataset.created.v1"),
        new_event(b'{"unheard": "of"}', "dataset.version-added.v1"),
        new_event(b"{}", "dataset.deleted.v1"),
    ]
    metadata = Metadata(actor="user", causation_id="no id")
    await api.store.append(stream, events, expected_version=0, metadata=metadata)
    found = await told(auditor, f"/dataset/{stream_id}/history")
    assert fields(found[0])["/name"] == (None, "n")
    assert [each["changes"] for each in found[1:]] == [None, None]
    assert found[1]["data"] == {"unheard": "of"}
    assert found[0]["cause"] == {"kind": "event", "ids": {"eventId": "no id"}}


async def test_pages_are_bounded_by_bytes_in_memory(api: Api) -> None:
    """Data that repeats itself is stored in a hundredth of the bytes it takes in memory."""
    auditor = await api.client(Role.AUDITOR)
    stream_id, text = uuid4(), "x" * 1_000_000
    stream = Stream(stream_id, stream_id, api.tenant_id, api.project_id)
    data = msgspec.json.encode({"name": text})
    some = [
        NewEvent(
            event_id=uuid4(), type="library.created.v1", data=data, occurred_at=datetime.now(UTC)
        )
        for _ in range(30)
    ]
    await api.store.append(stream, some, expected_version=0, metadata=METADATA)
    path, after = f"/library/{stream_id}/history", 0
    shown: list[dict[str, Any]] = []
    for wanted in (17, 13):
        page = (await auditor.get(f"{path}?limit=1000&after={after}")).json()
        shown += page["events"]
        assert len(page["events"]) == wanted
        after = page["next"]
    assert page["next"] is None
    assert [each["version"] for each in shown] == list(range(1, 31))
    everything = (await auditor.get("/events?limit=1000&type=library")).json()
    assert len(everything["events"]) < 30
    assert everything["next"] == everything["events"][-1]["position"]


async def test_so_much_is_folded_for_a_page_and_no_more(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor, auditor = await api.client(Role.EDITOR), await api.client(Role.AUDITOR)
    path = f"/notebook/{(await new_notebook(editor, 'a'))['notebookId']}"
    for name in ("one", "two", "three", "four"):
        await editor.put(path, json={"notebookName": name})
    run = (await editor.post(f"{path}/execute")).json()["executionId"]
    whole = await told(auditor, f"{path}/history", executions=True)
    assert all(each["changes"] for each in whole)
    assert not any("changesUnavailable" in each for each in whole)
    own = [each for each in whole if each["streamId"] != run]
    assert len(own) > 4

    async def folded(**query: Any) -> list[int]:
        """Versions of the events with changes, which are what they are without bounds."""
        events = await told(auditor, f"{path}/history", **query)
        known = {each["eventId"]: each for each in whole}
        for each in events:
            if each["changes"] is None:
                assert each["changesUnavailable"] == "too_much_before"
                continue
            assert each == known[each["eventId"]]
        return [each["version"] for each in events if each["changes"] is not None]

    for batch in (1, 2, 200):
        monkeypatch.setattr(changes, "BATCH", batch)
        monkeypatch.setattr(changes, "FOLDED_EVENTS", 3)
        assert await folded() == [1, 2, 3]
        assert await folded(sort="-position") == [3, 2, 1]
        assert await folded(after=own[3]["position"]) == []
        # One stream uses up what the next would need, unless it needs less.
        monkeypatch.setattr(changes, "FOLDED_EVENTS", len(own))
        assert await folded(executions=True) == [each["version"] for each in own]
        monkeypatch.setattr(changes, "FOLDED_EVENTS", len(own) + 1)
        assert await folded(executions=True) == [each["version"] for each in whole]
        data = [len(msgspec.json.encode(each["data"])) for each in own]
        monkeypatch.setattr(changes, "FOLDED_BYTES", sum(data[:3]) - 1)
        assert await folded(executions=True) == [1, 2, 3]
        monkeypatch.setattr(changes, "FOLDED_BYTES", 2**25)
        monkeypatch.setattr(changes, "BATCH_BYTES", 1)
        assert await folded(executions=True) == [each["version"] for each in whole]
        monkeypatch.undo()
