"""Following executions: server-sent events, and answers that wait for news."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from support.api import Api, new_notebook, running_api, settings_for, unknown_id
from support.databases import create_database, drop_database
from support.shared_api import api, api_server

from nbledger_application import repository
from nbledger_domain.execution import CellStatus, Execution, Resources
from nbledger_http.edge.middleware import MAX_WORKING
from nbledger_http.representations.event_streams import HEARTBEAT_SECONDS
from nbledger_infrastructure.postgres import tokens, worker_registry
from nbledger_infrastructure.postgres.event_store import Metadata, tail
from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

Event = dict[str, str]
Step = Callable[[Execution], object]
PROMPT = 10.0
"""Seconds that count as at once on a busy machine; far less than any wait asked for."""


async def started(client: httpx.AsyncClient, cells: int = 2) -> str:
    """The address of a new execution."""
    notebook = await new_notebook(client, *["x"] * cells)
    path = f"/notebook/{notebook['notebookId']}"
    answer = await client.post(f"{path}/execute")
    assert answer.status_code == 202, answer.text
    return f"{path}/execution/{answer.json()['executionId']}"


async def record(api: Api, execution: str, *steps: Step) -> None:
    """Let a worker's steps happen, each an append of its own."""
    for step in steps:
        await repository.update(
            api.store, Execution, UUID(execution[-36:]), step, Metadata(actor="worker")
        )


def run_of(cells: int) -> list[Step]:
    """All steps of a run in which every cell does well."""
    at = datetime.now(UTC)
    steps: list[Step] = [
        lambda run: run.claim("w", at=at),
        lambda run: run.start(1, language="python", language_version="3.11.7", at=at),
    ]
    for number in range(1, cells + 1):
        steps += _cell(f"cell-{number:03d}", at)
    return [*steps, lambda run: run.complete(1, resources=Resources(), at=at)]


def _cell(cell_id: str, at: datetime) -> list[Step]:
    return [
        lambda run: run.start_cell(1, cell_id, at=at),
        lambda run: run.finish_cell(
            1,
            cell_id,
            status=CellStatus.SUCCESS,
            execution_count=1,
            duration=0.1,
            outputs=[],
            output_count=0,
            output_bytes=0,
            error=None,
            at=at,
        ),
    ]


async def events_of(answer: httpx.Response) -> AsyncIterator[Event]:
    """The events of a stream as a browser takes it apart."""
    event: Event = {}
    async for line in answer.aiter_lines():
        if not line:
            if "data" in event:
                yield event
            event = {}
            continue
        name, _, value = line.partition(":")
        if name:
            value = value.removeprefix(" ")
            event[name] = f"{event[name]}\n{value}" if name in event else value


async def collect(answer: httpx.Response) -> list[Event]:
    """Every event up to the end of the stream, which is closed then."""
    assert answer.status_code == 200, await answer.aread()
    try:
        return [event async for event in events_of(answer)]
    finally:
        await answer.aclose()


async def follow(client: httpx.AsyncClient, execution: str, **options: Any) -> list[Event]:
    """Every event up to the end of the stream."""
    async with client.stream("GET", f"{execution}/events", **options) as answer:
        return await collect(answer)


async def history(client: httpx.AsyncClient, execution: str) -> list[dict[str, Any]]:
    """The history, but for what each event has changed."""
    found = (await client.get(f"{execution}/history?limit=1000")).json()["events"]
    return [{name: each[name] for name in each if not name.startswith("changes")} for each in found]


@pytest.mark.guarantee("G23")
async def test_a_stream_is_the_history_from_whatever_position(api: Api) -> None:
    client = await api.client()
    execution = await started(client)
    await record(api, execution, *run_of(2))
    told = await history(client, execution)
    found = await follow(client, execution)
    assert [json.loads(event["data"]) for event in found] == told
    assert [(event["id"], event["event"]) for event in found] == [
        (str(entry["position"]), entry["type"]) for entry in told
    ]
    for seen, last in enumerate(told[:-1], 1):
        position = str(last["position"])
        by_header = await follow(client, execution, headers={"Last-Event-ID": position})
        # The query of the address stays when a client comes back with the header.
        by_both = await follow(
            client, f"{execution}", headers={"Last-Event-ID": position}, params={"after": "0"}
        )
        by_query = await follow(client, execution, params={"after": position})
        assert by_header == by_query == by_both == found[seen:]
    last_position = str(told[-1]["position"])
    for options in ({"headers": {"Last-Event-ID": last_position}}, {"params": {"after": "99999"}}):
        known = await client.get(f"{execution}/events", **options)  # type: ignore[arg-type]
        assert (known.status_code, known.content) == (204, b"")


async def test_more_events_than_are_read_at_once(api: Api) -> None:
    client = await api.client()
    execution = await started(client, cells=120)

    def whole(run: Execution) -> None:
        for step in run_of(120):
            step(run)

    await record(api, execution, whole)
    found = await follow(client, execution)
    told = await history(client, execution)
    assert len(told) == 244
    assert [json.loads(event["data"]) for event in found] == told


async def test_what_a_stream_answers_besides_events(api: Api) -> None:
    client = await api.client(Role.READER)
    editor = await api.client()
    execution = await started(editor)
    address = f"{execution}/events"
    async with client.stream("GET", address) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "no-store" in answer.headers["cache-control"]
    assert (await client.head(address)).status_code == 200
    for wrong in ("x", "-1", "1.5", "99999", str(2**63)):
        refused = await client.get(address, headers={"Last-Event-ID": wrong})
        assert refused.status_code == 422, wrong
        assert refused.json()["errors"][0]["pointer"] == "Last-Event-ID"
    refused = await client.get(address, params={"after": "x"})
    assert refused.json()["errors"][0]["pointer"] == "?after"
    other = await new_notebook(editor, "x")
    stranger = await api.client(tenant_id=UUID(unknown_id()))
    for who, path in (
        (client, f"{execution[:-36]}{unknown_id()}"),
        (client, f"/notebook/{other['notebookId']}/execution/{execution[-36:]}"),
        (stranger, execution),
    ):
        answer = await who.get(f"{path}/events")
        assert answer.status_code == 404, path
        assert answer.json()["code"] == "execution_not_found"
    assert (await api.anonymous(base=api.base).get(address)).status_code == 401


async def test_events_come_as_they_happen(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody but the database's word is to bring them.
    monkeypatch.setattr(tail, "POLL_INTERVAL", 60.0)
    client = await api.client()
    execution = await started(client)
    delays = []
    async with client.stream("GET", f"{execution}/events", timeout=30) as answer:
        following = events_of(answer)
        assert (await anext(following))["event"] == "execution.requested.v1"
        for step in run_of(2):
            await record(api, execution, step)
            began = time.monotonic()
            await anext(following)
            delays.append(time.monotonic() - began)
        assert [event async for event in following] == []
    # The store may have been about to be looked at as before.
    assert sorted(delays)[len(delays) // 2] < PROMPT


@pytest.mark.guarantee("G23")
async def test_streams_live_through_lost_connections(tmp_path: Path) -> None:
    dsn = create_database()
    try:
        async with running_api(settings_for(dsn, tmp_path / "a")) as api:
            client = await api.client()
            executions = [await started(client, cells=5) for _ in range(8)]
            streams = [
                await client.send(client.build_request("GET", f"{each}/events"), stream=True)
                for each in executions
            ]
            followers = [asyncio.create_task(collect(stream)) for stream in streams]
            for step in run_of(5):
                await asyncio.gather(*(record(api, each, step) for each in executions))
                await api.pool.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND application_name = 'nbledger-api'"
                )
            async with asyncio.timeout(20):
                found = await asyncio.gather(*followers)
            for execution, events in zip(executions, found, strict=True):
                told = await api.store.read_stream(UUID(execution[-36:]))
                assert [int(event["id"]) for event in events] == [each.position for each in told]
    finally:
        drop_database(dsn)


def live_replies() -> int:
    return sum(task.get_name() == "live reply" for task in asyncio.all_tasks())


class RawStream:
    """A stream over a plain connection: hundreds of them cost a test little."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, client: httpx.AsyncClient, path: str) -> RawStream:
        url = client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        token = client.headers["authorization"]
        head = f"GET {url.path.rstrip('/')}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}"
        writer.write(f"{head}\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"retry:")
        return cls(reader, writer)

    async def positions(self) -> list[int]:
        """Of all events, to the end."""
        body = await self._reader.readuntil(b"\r\n0\r\n\r\n")
        return [int(line[3:]) for line in body.splitlines() if line.startswith(b"id:")]

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def test_many_idle_streams_hold_nobody_up(tmp_path: Path) -> None:
    # More than requests that are worked on at once, and than connections to the database.
    count = MAX_WORKING + 20
    dsn = create_database()
    try:
        settings = settings_for(dsn, tmp_path / "a")
        async with running_api(settings) as api:
            client = await api.client()
            execution, other = await started(client), await started(client)
            streams = [await RawStream.open(client, f"{execution}/events") for _ in range(count)]
            assert live_replies() == count
            for _ in range(3):
                began = time.monotonic()
                assert (await client.get(execution)).status_code == 200
                assert time.monotonic() - began < PROMPT
            connections = await api.pool.fetchval(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'nbledger-api'"
            )
            assert connections <= settings.postgres.pool_size + 3
            # Most of the clients go away, and nothing is left of their streams.
            for stream in streams[20:]:
                await stream.close()
            async with asyncio.timeout(PROMPT):
                while live_replies() > 20:  # noqa: ASYNC110 (no event tells of it)
                    await asyncio.sleep(0.01)
            await record(api, other, *run_of(2))
            await record(api, execution, *run_of(2))
            told = [each.position for each in await api.store.read_stream(UUID(execution[-36:]))]
            for stream in streams[:20]:
                assert await stream.positions() == told
                await stream.close()
    finally:
        drop_database(dsn)


async def test_open_streams_end_with_the_server_and_say_so(
    database_dsn: str, tmp_path: Path
) -> None:
    stop = asyncio.Event()
    settings = settings_for(database_dsn, tmp_path / "a", drain_seconds=30.0)
    async with running_api(settings, stop=stop) as api:
        client = await api.client()
        execution = await started(client)
        async with client.stream("GET", f"{execution}/events") as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            stop.set()
            async with asyncio.timeout(PROMPT):
                assert ": the server is about to end" in [line async for line in lines]


async def test_a_stream_ends_with_its_token(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("nbledger_http.representations.event_streams.HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr("nbledger_http.security.authentication.REMEMBER_SECONDS", 0.0)
    dsn = create_database()
    try:
        async with running_api(settings_for(dsn, tmp_path / "a")) as api:
            client = await api.client()
            execution = await started(client)
            async with client.stream("GET", f"{execution}/events") as answer:
                lines = answer.aiter_lines()
                async with asyncio.timeout(PROMPT):
                    while await anext(lines) != ": waiting":
                        pass
                for token in await tokens.list_all(api.pool):
                    await tokens.revoke(api.pool, token.token_id)
                async with asyncio.timeout(PROMPT):
                    assert (await _last(lines)).startswith(": the access token")
    finally:
        drop_database(dsn)
    assert HEARTBEAT_SECONDS == 15.0


async def _last(lines: AsyncIterator[str]) -> str:
    return [line async for line in lines if line][-1]


async def test_a_status_waits_for_another_state(api: Api) -> None:
    client = await api.client()
    execution = await started(client)
    answer = await client.get(execution)
    etag = answer.headers["etag"]
    for step in run_of(2):
        headers = {"If-None-Match": etag, "Prefer": "wait=20"}
        began = time.monotonic()
        waiting = asyncio.create_task(client.get(execution, headers=headers))
        await record(api, execution, step)
        answer = await waiting
        assert time.monotonic() - began < PROMPT
        assert answer.status_code == 200
        assert answer.headers["preference-applied"] == "wait=20"
        assert answer.headers["etag"] != etag
        etag = answer.headers["etag"]
    assert answer.json()["status"] == "Completed"
    # Nothing more can happen to what has ended.
    ended = await client.get(execution, headers={"If-None-Match": etag, "Prefer": "wait=20"})
    assert ended.status_code == 304


async def test_a_status_waits_for_the_end(api: Api) -> None:
    client = await api.client()
    execution = await started(client)
    *steps, last = run_of(2)
    headers = {"Prefer": "respond-async, wait=600"}
    waiting = asyncio.create_task(client.get(execution, headers=headers))
    await record(api, execution, *steps)
    done, _ = await asyncio.wait({waiting}, timeout=0.3)
    assert not done
    await record(api, execution, last)
    async with asyncio.timeout(PROMPT):
        answer = await waiting
    assert answer.json()["status"] == "Completed"
    assert answer.headers["preference-applied"] == "wait=60"


async def test_a_wait_for_nothing_ends(api: Api) -> None:
    client = await api.client()
    execution = await started(client)
    etag = (await client.get(execution)).headers["etag"]
    began = time.monotonic()
    same, running = await asyncio.gather(
        client.get(execution, headers={"If-None-Match": etag, "Prefer": 'Wait="1"; x=y'}),
        client.get(execution, headers={"Prefer": "wait=1"}),
    )
    assert 1.0 <= time.monotonic() - began < 1.0 + PROMPT
    assert (same.status_code, same.headers["preference-applied"]) == (304, "wait=1")
    assert (running.status_code, running.json()["status"]) == (200, "Running")
    for prefer in ("wait=-1", "wait=x", "await=5", "foo; wait=5", "wait=5x"):
        answer = await client.get(execution, headers={"Prefer": prefer})
        assert answer.status_code == 200
        assert "preference-applied" not in answer.headers, prefer


async def test_lists_tell_of_a_granted_wait(api: Api) -> None:
    client = await api.client()
    headers = {"Nbledger-Position": "0", "Prefer": "wait=100"}
    for path in ("/notebooks", f"{(await started(client))[:-47]}/executions"):
        answer = await client.get(path, headers=headers)
        assert answer.headers["preference-applied"] == "wait=60"
        assert "preference-applied" not in (await client.get(path)).headers


async def test_kernel_types_on_offer(api: Api) -> None:
    client = await api.client(Role.READER)
    offers = [
        worker_registry.WorkerOffer("test-b", "ir", "R", None),
        worker_registry.WorkerOffer("test-a", "python3", "python", "3.11.9"),
    ]
    for worker_id in ("w1", "w2"):
        await worker_registry.heartbeat(api.pool, worker_id, offers, capacity=1)
    await worker_registry.heartbeat(api.pool, "w3", offers[:1], capacity=1)
    kernels = (await client.get("/kernels")).json()["kernels"]
    told = [
        (each["kernelType"], each["language"], each["languageVersion"], each["workers"])
        for each in kernels
        if each["kernelType"].startswith("test-")
    ]
    assert told == [("test-a", "python", "3.11.9", 2), ("test-b", "R", None, 3)]
    assert all(isinstance(each["waiting"], int) for each in kernels)


async def test_a_waiting_answer_comes_before_the_server_ends(
    database_dsn: str, tmp_path: Path
) -> None:
    stop = asyncio.Event()
    settings = settings_for(database_dsn, tmp_path / "a", drain_seconds=30.0)
    async with running_api(settings, stop=stop) as api:
        client = await api.client()
        execution = await started(client)
        waits = [
            asyncio.create_task(client.get(path, headers={"Prefer": "wait=20", **headers}))
            for path, headers in (
                (execution, {}),
                ("/notebooks", {"Nbledger-Position": "99999"}),
            )
        ]
        await api.until_in_hand(2)
        stop.set()
        async with asyncio.timeout(PROMPT):
            answers = await asyncio.gather(*waits)
        assert [answer.status_code for answer in answers] == [200, 200]
