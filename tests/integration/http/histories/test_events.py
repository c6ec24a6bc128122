"""All events of a project or tenant: in pages, as JSON Lines, and as they happen."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from support.api import Api, new_notebook, running_api, settings_for
from support.databases import create_database, drop_database
from support.event_store import METADATA, open_stores
from support.shared_api import ServerThread, api, api_server

from nbledger_http.endpoints.histories import pushing
from nbledger_infrastructure.postgres.event_store import EventStore, NewEvent, Stream
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.read_models.histories import windows

__all__ = ["api", "api_server"]

LINES = {"Accept": "application/x-ndjson"}
READ = "history.read.v1"


async def page(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/events", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def all_pages(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    following: int | None = 0
    while following is not None:
        found = await page(client, **{**query, "after": following})
        events += found["events"]
        following = found["next"]
    return events


async def lines(client: httpx.AsyncClient, **query: Any) -> tuple[list[dict[str, Any]], Any]:
    """The events of an export, and what its last line says."""
    answer = await client.get("/events", params=query, headers=LINES)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    *events, last = [json.loads(line) for line in answer.text.splitlines()]
    return events, last["end"]


def positions(events: list[dict[str, Any]]) -> list[int]:
    return [event["position"] for event in events]


def others(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events but for those that tell of reading."""
    return [event for event in events if event["type"] != READ]


async def append(
    api: Api,
    count: int,
    *,
    data: bytes = b"{}",
    project_id: UUID | None = None,
    tenant_id: UUID | None = None,
    size: int = 500,
) -> UUID:
    """So many events of one stream."""
    stream_id = uuid4()
    stream = Stream(stream_id, stream_id, tenant_id or api.tenant_id, project_id or api.project_id)
    for version in range(0, count, size):
        some = [
            NewEvent(
                event_id=uuid4(),
                type="dataset.created.v1",
                data=data,
                occurred_at=datetime.now(UTC),
            )
            for _ in range(min(size, count - version))
        ]
        await api.store.append(stream, some, expected_version=version, metadata=METADATA)
    return stream_id


@pytest.mark.guarantee("G23")
async def test_pages_lines_and_histories_tell_the_same(api: Api) -> None:
    auditor = await api.client(Role.AUDITOR)
    editor = await api.client(Role.EDITOR)
    notebook = await new_notebook(editor, "a")
    path = f"/notebook/{notebook['notebookId']}"
    await editor.put(path, json={"notebookName": "M"})
    await append(api, 20, project_id=uuid4())  # of another project
    own = [
        {name: value for name, value in event.items() if name != "changes"}
        for event in (await auditor.get(f"{path}/history")).json()["events"]
    ]
    told = await all_pages(auditor, limit=2)
    assert others(told) == own
    exported, end = await lines(auditor)
    # What was recorded of reading comes on top, and only once in an hour.
    assert others(exported) == own
    assert positions(exported) == sorted(set(positions(exported)))
    assert end["complete"] is True
    assert end["reason"] is None
    assert end["events"] == len(exported)
    assert end["position"] == end["until"] >= exported[-1]["position"]
    # An export goes on where one has ended, by query or by header.
    half = exported[len(exported) // 2]["position"]
    rest = [event for event in exported if event["position"] > half]
    again, _ = await lines(auditor, after=half, until=end["until"])
    assert again == rest
    by_header = await auditor.get(
        "/events", params={"until": end["until"]}, headers={**LINES, "Last-Event-ID": str(half)}
    )
    assert [json.loads(each) for each in by_header.text.splitlines()[:-1]] == rest


async def test_an_export_is_compressed_where_that_is_accepted(api: Api) -> None:
    auditor = await api.client(Role.AUDITOR)
    await append(api, 1200)
    headers = {**LINES, "Accept-Encoding": "gzip"}
    async with auditor.stream("GET", "/events", headers=headers) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        packed = b"".join([piece async for piece in answer.aiter_raw()])
    plain = gzip.decompress(packed)
    assert len(packed) < len(plain) / 2
    told = [json.loads(line) for line in plain.splitlines()]
    assert told[-1]["end"]["events"] == len(told) - 1
    assert len(others(told[:-1])) == 1200
    plainly = await auditor.get("/events", headers={**LINES, "Accept-Encoding": "identity"})
    assert "content-encoding" not in plainly.headers
    assert plainly.headers["vary"] == "Accept, Accept-Encoding"
    await auditor.get("/events?format=jsonl", headers={"Accept-Encoding": "gzip;q=0"})


async def test_filters_by_type_stream_and_tag(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    # However few events meet a filter, each look is bounded, and none is passed over.
    monkeypatch.setattr(windows, "LOOKED_AT", 7)
    auditor, editor = await api.client(Role.AUDITOR), await api.client(Role.EDITOR)
    notebook = await new_notebook(editor, "a")
    path = f"/notebook/{notebook['notebookId']}"
    runs = []
    for tags in (["nightly"], ["daily", "big", 'a, "b" \\c'], []):
        await append(api, 30)
        asked = await editor.post(f"{path}/execute", json={"tags": tags})
        assert asked.status_code == 202, asked.text
        runs.append(asked.json()["executionId"])
        await editor.post(f"{path}/execution/{runs[-1]}/cancel")
    everything = others(await all_pages(auditor, limit=1000))
    of_runs = [each for each in everything if each["streamId"] in runs]
    of_second = [each for each in of_runs if each["streamId"] == runs[1]]
    assert len(everything) > 90
    for query, wanted in (
        ({"type": "execution"}, of_runs),
        ({"tag": "nightly"}, [each for each in of_runs if each["streamId"] == runs[0]]),
        ({"tag": "big,nightly"}, [each for each in of_runs if each["streamId"] != runs[2]]),
        ({"stream": runs[1]}, of_second),
        ({"tag": "never"}, []),
        (
            {"tag": 'never, "a, \\"b\\" \\\\c"'},
            [each for each in of_runs if each["streamId"] == runs[1]],
        ),
        ({"actor": "tester", "type": "execution"}, of_runs),
        (
            {"type": "execution.requested", "tag": "daily"},
            of_second[:1],
        ),
    ):
        assert await all_pages(auditor, **query, limit=1) == wanted, query
        exported, end = await lines(auditor, **query)
        assert exported == wanted
        assert end["complete"]
        assert end["position"] == end["until"]
    for wrong, reason in (
        ("stream=x", "must be ids of streams"),
        ("tag=a,,b", "has nothing between two commas"),
        ('tag="a,b', "has a quote without its end"),
        ('tag=c,"a"b', "has a quote without its end"),
        ('tag=a, "b" \\c', "has a quote without its end"),
        ('tag=""', "has nothing between two commas"),
        ("after=-1", "from 0"),
        ("format=xml", "json"),
        ("format=sse&until=3", "go on"),
        ("format=sse&limit=3", "go on"),
        ("format=jsonl&limit=0", "from 1"),
        ("Limit=3", "did you mean limit?"),
        ("types=execution", "did you mean type?"),
        ("type=executon", "did you mean execution?"),
        ("type=Execution.Requested", "did you mean execution.requested?"),
        ("type=execution.requested.v9", "did you mean execution.requested.v1?"),
        ("type=cell_executed", "did you mean"),
    ):
        answer = await auditor.get(f"/events?{wrong}")
        assert answer.status_code == 422, wrong
        assert reason in answer.json()["errors"][0]["reason"], (wrong, answer.text)
    answer = await auditor.get("/events", headers={**LINES, "Last-Event-ID": "x"})
    assert answer.status_code == 422


@pytest.mark.guarantee("G56")
async def test_a_range_that_can_hold_nothing_is_refused(api: Api) -> None:
    """Of all events, of one thing, and of who has read them: none is answered as if empty."""
    editor, auditor = await api.client(Role.EDITOR), await api.client(Role.AUDITOR)
    notebook = await new_notebook(editor, "a")
    addresses = ("/events", f"/notebook/{notebook['notebookId']}/history", "/history-reads")
    early, late = "2024-01-20T10:30:00Z", "2024-01-20T10:30:01Z"
    for address in addresses:
        for query, pointer in (
            (f"from={late}&to={early}", "?to"),
            ("after=2&before=1", "?before"),
            ("after=2&until=1", "?until"),
        ):
            if pointer == ("?before" if address == "/events" else "?until"):
                continue
            answer = await auditor.get(f"{address}?{query}")
            assert answer.status_code == 422, (address, query)
            assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]
        assert (await auditor.get(f"{address}?from={early}&to={early}")).status_code == 200
        # Nothing has happened yet up to there: whoever went on from it would miss what comes.
        head = await api.store.head_position()
        for form in ("", "&format=jsonl", "&format=sse") if address == "/events" else ("",):
            answer = await auditor.get(f"{address}?after={head + 1000}{form}")
            assert answer.status_code == 422, (address, form)
            (error,) = answer.json()["errors"]
            assert error["pointer"] == "?after"
            assert error["reason"].startswith("is beyond the last event, which is at position ")
        assert (await auditor.get(f"{address}?after={head}")).status_code == 200
    answer = await auditor.get("/events", headers={**LINES, "Last-Event-ID": str(2**62)})
    assert answer.json()["errors"][0]["pointer"] == "Last-Event-ID"


@pytest.mark.guarantee("G56")
async def test_json_lines_have_as_many_events_as_are_asked_for(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "EVENTS_PER_WINDOW", 4)
    await append(api, 10)
    auditor = await api.client(Role.AUDITOR)
    everything, end = await lines(auditor)
    assert end["complete"]
    for limit in (1, 4, 7):
        told, end = await lines(auditor, limit=limit)
        assert told == everything[:limit]
        assert (end["complete"], end["reason"]) == (False, "limit_reached")
        assert (end["events"], end["position"]) == (limit, told[-1]["position"])
        rest, end = await lines(auditor, after=end["position"])
        assert others(rest) == others(everything[limit:])
    # The end is the end, however many were allowed.
    told, end = await lines(auditor, limit=4, until=everything[3]["position"])
    assert (len(told), end["complete"], end["reason"]) == (4, True, None)


async def test_the_form_is_what_the_client_accepts(api: Api) -> None:
    auditor = await api.client(Role.AUDITOR)
    for accept, form in (
        ("application/x-ndjson;q=0", "application/json"),
        ("application/x-ndjson;q=0.1, application/json", "application/json"),
        ("application/jsonl, */*;q=0.1", "application/x-ndjson"),
        ("text/event-stream;q=0, application/ndjson;q=0.2", "application/x-ndjson"),
    ):
        answer = await auditor.get("/events?limit=1", headers={"Accept": accept})
        assert answer.headers["content-type"].partition(";")[0] == form, accept


async def test_a_tenant_is_read_with_a_token_for_all_its_projects(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LOOKED_AT", 100)
    other = uuid4()
    await append(api, 3)
    await append(api, 4, project_id=other)
    base = f"/audit/events/{api.tenant_id}"
    auditor = await api.client(Role.AUDITOR, base=base)
    told: list[dict[str, Any]] = []
    following: int | None = 0
    while following is not None:
        page_of = (await auditor.get(f"?limit=1000&after={following}")).json()
        told += page_of["events"]
        following = page_of["next"]
    assert [each["projectId"] for each in others(told)] == [
        *[str(api.project_id)] * 3,
        *[str(other)] * 4,
    ]
    exported = (await auditor.get("", headers=LINES)).text.splitlines()
    assert len(others([json.loads(line) for line in exported[:-1]])) == 7
    some = await api.client(Role.AUDITOR, project_ids=[api.project_id], base=base)
    assert (await some.get("")).status_code == 403
    editor = await api.client(Role.EDITOR, base=base)
    assert (await editor.get("")).status_code == 403
    foreign = await api.client(Role.AUDITOR, tenant_id=uuid4(), base=base)
    assert (await foreign.get("")).status_code == 404
    assert (await api.anonymous(base=base).get("")).status_code == 401


async def test_events_of_other_tenants_cost_a_small_one_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LOOKED_AT", 5)
    auditor = await api.client(Role.AUDITOR, base=f"/audit/events/{api.tenant_id}")
    other = uuid4()
    await append(api, 2)
    for _ in range(3):
        # More than all windows of a page look at.
        await append(api, 60, tenant_id=other)
        await append(api, 1, project_id=uuid4())
    for query in ({}, {"type": "dataset"}, {"type": "dataset", "actor": "tester,service"}):
        found = (await auditor.get("", params=query)).json()
        assert found["next"] is None, query
        assert len(others(found["events"])) == (0 if "actor" in query else 5)


async def events_of(answer: httpx.Response) -> AsyncGenerator[tuple[int, bool]]:
    """Positions of server-sent events, and ids that come without one."""
    seen: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            seen[name] = value
            continue
        if "data" in seen:
            assert json.loads(seen["data"])["position"] == int(seen["id"])
        if "id" in seen:
            yield int(seen["id"]), "data" in seen
        seen = {}


@pytest.mark.guarantee("G23")
async def test_followers_miss_nothing_under_load(api: Api, api_server: ServerThread) -> None:
    """Several write at once, and followers come, go and return with the last id they have."""
    auditor = await api.client(Role.AUDITOR)
    writers, each_writes = 6, 60
    done = asyncio.Event()
    sse = {"Accept": "text/event-stream"}

    async def write(store: EventStore) -> None:
        stream_id = uuid4()
        stream = Stream(stream_id, stream_id, api.tenant_id, api.project_id)
        for version in range(each_writes):
            event = NewEvent(
                event_id=uuid4(),
                type="dataset.created.v1",
                data=b'{"name":"n"}',
                occurred_at=datetime.now(UTC),
            )
            await store.append(stream, [event], expected_version=version, metadata=METADATA)

    async def follow(reads_at_once: int) -> list[int]:
        found: list[int] = []
        while True:
            last = {"Last-Event-ID": str(found[-1])} if found else {}
            async with (
                auditor.stream("GET", "/events", headers={**sse, **last}) as answer,
                contextlib.aclosing(events_of(answer)) as events,
            ):
                count = 0
                async for position, told in events:
                    if told:
                        found.append(position)
                        count += 1
                    if done.is_set() and found and found[-1] >= end[0]:
                        return found
                    if count == reads_at_once:
                        break

    end = [2**62]
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        followers = [tasks.create_task(follow(number)) for number in (7, 50, 10**6)]
        # Stores of their own gather no appends: each has transactions of its own.
        async with open_stores(api_server.settings.postgres.dsn, writers) as stores:
            await asyncio.gather(*map(write, stores))
        await append(api, 1)
        end[0] = await api.store.head_position()
        done.set()
        await append(api, 1)
    everything = positions(await all_pages(auditor, limit=1000))
    for follower in followers:
        found = follower.result()
        assert found == [each for each in everything if each <= found[-1]]
        assert len(found) >= writers * each_writes + 1


async def test_a_stream_with_a_filter_tells_how_far_it_is(api: Api) -> None:
    auditor = await api.client(Role.AUDITOR)
    await append(api, 3)
    head = await api.store.head_position()
    headers = {"Accept": "text/event-stream"}
    async with (
        asyncio.timeout(20),
        auditor.stream("GET", "/events?type=library", headers=headers) as answer,
        contextlib.aclosing(events_of(answer)) as events,
    ):
        position, told = await anext(events)
    assert position >= head
    assert not told


@contextlib.asynccontextmanager
async def raw_export(api: Api, client: httpx.AsyncClient) -> AsyncIterator[asyncio.StreamReader]:
    """An export that has begun, of which no more is read than the test reads."""
    host = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(host.hostname, host.port, limit=1 << 16)
    try:
        writer.write(
            f"GET {api.base}/events?format=jsonl HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: {client.headers['authorization']}\r\n\r\n".encode()
        )
        await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """The last bytes of an answer that is read to its end."""
    told = b""
    while not told.endswith(b"\r\n0\r\n\r\n"):
        piece = await reader.read(1 << 20)
        assert piece
        told = told[-400:] + piece
    return told


async def test_a_client_that_breaks_off_or_stalls_costs_nobody_else_anything(
    tmp_path: Path,
) -> None:
    """Of an export that nobody takes only a little is read; it goes on when somebody does.

    One that the end of the server cuts short says so, and how far it came.
    """
    dsn, stop = create_database(), asyncio.Event()
    try:
        settings = settings_for(dsn, tmp_path)
        async with running_api(settings, stop=stop) as api, asyncio.timeout(60):
            await append(api, 1500, data=msgspec.json.encode({"name": "x" * 10_000}), size=250)
            auditor = await api.client(Role.AUDITOR)
            async with raw_export(api, auditor) as stalled:
                async with raw_export(api, auditor):
                    await api.until_in_hand(2)
                    # Nothing is held for them in the database, which works for others.
                    while await open_transactions(api):  # noqa: ASYNC110 - no event tells of it
                        await asyncio.sleep(0.05)
                    await append(api, 1)
                assert api.edge is not None
                while api.edge.in_hand > 1:  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(0.05)
                # Those that were there at its beginning.
                assert b'"events":1500,"complete":true' in await rest_of(stalled)
            async with raw_export(api, auditor) as cut_short:
                stop.set()
                told = await rest_of(cut_short)
            end = json.loads(told[told.index(b'{"end":') :].partition(b"\n")[0])["end"]
            assert (end["complete"], end["reason"]) == (False, "server_stopping")
            assert 0 < end["events"] < 1500
            assert end["position"] < end["until"]
    finally:
        drop_database(dsn)


async def open_transactions(api: Api) -> int:
    """Transactions of the API on its database, but for those that do something right now."""
    async with api.pool.acquire() as connection:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'nbledger-api' AND xact_start IS NOT NULL"
        )
    return found
