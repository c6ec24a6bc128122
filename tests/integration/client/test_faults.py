"""The client on a network that loses answers, in both ways of calling; the API is the real one."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from support.api import Api
from support.lossy import Lossy, lossy_way
from support.read_models import catch_up
from support.shared_api import api, api_server

from nbledger_client import AsyncClient, Client, Retries
from nbledger_client.errors import (
    ConflictError,
    ConnectFailedError,
    ConnectionLostError,
    DigestMismatchError,
    NotebookNotFoundError,
    PreconditionFailedError,
    TimedOutError,
)
from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

QUICK = Retries(attempts=4, first_seconds=0.01, longest_seconds=0.05)
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Retry-After: 0\r\nConnection: close\r\nContent-Length: 22\r\n\r\n"
    b'{"code":"unavailable"}'
)
AWAY = b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 6\r\n\r\n<html>"


class Caller:
    """Calls verbs of one of the clients by their names."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def __call__(self, name: str, *args: Any, **asked: Any) -> Any:
        group, _, verb = name.partition(".")
        made = getattr(getattr(self.client, group), verb)
        if isinstance(self.client, Client):
            return await asyncio.to_thread(lambda: _whole(made(*args, **asked)))
        found = made(*args, **asked)
        return [each async for each in found] if inspect.isasyncgen(found) else await found

    async def some(self, count: int, name: str, **asked: Any) -> list[Any]:
        """The first so many of what is iterated."""
        group, _, verb = name.partition(".")
        made = getattr(getattr(self.client, group), verb)
        if isinstance(self.client, Client):

            def take() -> list[Any]:
                found = made(**asked)
                taken = [next(found) for _ in range(count)]
                found.close()
                return taken

            return await asyncio.to_thread(take)
        async with aclosing(made(**asked)) as found:
            return [await anext(found) for _ in range(count)]


def _whole(found: Any) -> Any:
    return list(found) if inspect.isgenerator(found) else found


@pytest.fixture
async def way(api: Api) -> AsyncIterator[Lossy]:
    async with lossy_way(api.url) as lossy:
        yield lossy


@pytest.fixture(params=["blocking", "awaited"])
async def call(api: Api, way: Lossy, request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    secret, _ = await tokens.create(
        api.pool, name="t", tenant_id=api.tenant_id, project_ids=None, roles=[Role.ADMIN]
    )
    named: dict[str, Any] = {
        "token": secret,
        "tenant_id": str(api.tenant_id),
        "project_id": str(api.project_id),
        "retries": QUICK,
    }
    if request.param == "blocking":
        with Client(way.url, **named) as client:
            yield Caller(client)
    else:
        async with AsyncClient(way.url, **named) as awaited:
            yield Caller(awaited)


async def count_of(api: Api) -> int:
    client = await api.client()
    found: int = (await client.get("/history-reads")).status_code
    assert found == 200
    page = (await client.get("/events")).json()
    return sum(each["type"] == "notebook.created.v1" for each in page["events"])


@pytest.mark.guarantee("G62")
async def test_what_was_made_is_not_made_twice_where_its_answer_was_lost(
    api: Api, way: Lossy, call: Caller
) -> None:
    way.plans = [0, AWAY, 0]
    made = await call("notebooks.create", notebook_name="Once")
    assert made.answer.replayed
    assert len({key for head in way.requests for key in _keys(head)}) == 1
    assert len(way.requests) == 4
    assert await count_of(api) == 1
    again = await call("notebooks.create", notebook_name="Once")
    assert again.notebook_id != made.notebook_id


def _keys(head: str) -> list[str]:
    return [line for line in head.splitlines() if line.lower().startswith("idempotency-key")]


@pytest.mark.guarantee("G62")
async def test_an_upload_is_read_anew_for_each_attempt(
    way: Lossy, call: Caller, tmp_path: Path
) -> None:
    (tmp_path / "n.ipynb").write_text(
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}'
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_bytes(b"a\n" * 50_000)
    way.plans = [0, BUSY]
    made = await call("notebooks.upload", tmp_path / "n.ipynb", files=[tmp_path / "in"])
    assert [(each.path, each.size) for each in made.files] == [("in/a.csv", 100_000)]
    put = await call("files.put", made, "big.bin", tmp_path / "in" / "a.csv")
    assert put.files[0].digest == hashlib.sha256(b"a\n" * 50_000).hexdigest()


@pytest.mark.guarantee("G62")
async def test_a_deletion_whose_answer_was_lost_is_done(way: Lossy, call: Caller) -> None:
    made = await call("notebooks.create", notebook_name="Gone")
    await _anew(call)
    way.plans = [0]
    assert await call("notebooks.delete", made) is None
    with pytest.raises(NotebookNotFoundError) as refused:
        await call("notebooks.delete", made)
    assert refused.value.request_id
    assert refused.value.code == "notebook_not_found"


@pytest.mark.guarantee("G62")
async def test_a_change_of_one_version_is_never_sent_twice_where_it_may_be_done(
    way: Lossy, call: Caller
) -> None:
    made = await call("notebooks.create", notebook_name="A")
    await _anew(call)
    way.plans = [0]
    with pytest.raises(ConnectionLostError) as lost:
        await call("notebooks.update", made, if_match=made, notebook_name="B")
    assert lost.value.reached
    assert (await call("notebooks.get", made)).notebook_name == "B"
    with pytest.raises(PreconditionFailedError):
        await call("notebooks.update", made, if_match=made, notebook_name="C")
    await _anew(call)
    way.plans = [BUSY]
    read = await call("notebooks.get", made)
    await _anew(call)
    way.plans = [BUSY]
    changed = await call("notebooks.update", made, if_match=read, notebook_name="C")
    assert changed.notebook_name == "C"
    await _anew(call)
    way.plans = [0, 0]
    assert (await call("notebooks.update", made, notebook_name="D")).notebook_name == "D"


async def _anew(call: Caller) -> None:
    """Drop the connections, so that plans are for the next request."""
    io: Any = call.client._io
    pool = io._http._transport._pool
    if isinstance(call.client, Client):
        pool.close()
    else:
        await pool.aclose()


async def test_attempts_end(way: Lossy, call: Caller) -> None:
    way.plans = [AWAY] * 9
    with pytest.raises(Exception, match="HTTP 502"):
        await call("notebooks.create", notebook_name="Never")
    assert len(way.requests) == QUICK.attempts


async def test_where_nobody_listens_nothing_was_done() -> None:
    with (
        Client("http://127.0.0.1:9", token="t", retries=QUICK) as client,
        pytest.raises(ConnectFailedError) as failed,
    ):
        await asyncio.to_thread(client.service.live)
    assert not failed.value.reached


async def test_an_answer_that_does_not_come_is_given_up(call: Caller) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{silent.getsockname()[1]}"
    kind = type(call.client)
    client = kind(address, token="t", timeout=0.2, retries=Retries(attempts=2, first_seconds=0))
    try:
        with pytest.raises(TimedOutError):
            await Caller(client)("service.live")
    finally:
        silent.close()
        closing = client.close()
        if inspect.isawaitable(closing):
            await closing


async def test_lists_have_no_pages_and_show_what_was_written(
    api: Api, way: Lossy, call: Caller
) -> None:
    names = {f"n{number}" for number in range(5)}
    for name in names:
        await call("notebooks.create", notebook_name=name)
    listing = asyncio.create_task(call("notebooks.list", page_size=2))
    await way.until("nbledger-position:")
    await catch_up(api.pool)
    found = await listing
    assert {each.notebook_name for each in found} == names


@pytest.mark.guarantee("G62")
async def test_a_download_goes_on_where_it_broke(way: Lossy, call: Caller, tmp_path: Path) -> None:
    content = random.Random(7).randbytes(1_500_000)
    made = await call("notebooks.create", notebook_name="Files")
    await call("files.put", made, "big.bin", content)
    await _anew(call)
    way.requests.clear()
    way.plans = [600_000, 400_000, 1_000]
    target = tmp_path / "deep" / "big.bin"
    assert await call("files.download", made, "big.bin", target) == target
    assert target.read_bytes() == content
    assert sum("range: bytes=" in head.lower() for head in way.requests) == 3
    assert [each.name for each in target.parent.iterdir()] == ["big.bin"]


async def test_a_download_that_is_another_file_leaves_none(call: Caller, tmp_path: Path) -> None:
    link = SimpleNamespace(download_url=f"{call.client.connection.url}/", digest="0" * 64)
    with pytest.raises(DigestMismatchError):
        await call("results.download", link, tmp_path / "x")
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - done at once


@pytest.mark.guarantee("G62")
async def test_a_followed_stream_has_every_event_once_across_lost_connections(
    way: Lossy, call: Caller
) -> None:
    for number in range(12):
        await call("notebooks.create", notebook_name=f"n{number}")
    expected = [each.position for each in await call("events.read")]
    await _anew(call)
    way.requests.clear()
    way.plans = [500, 3_000, 2_500, 0, 4_000]
    found = await call.some(len(expected), "events.follow")
    assert [each.position for each in found] == expected
    assert len(way.requests) > 5


async def test_a_token_goes_to_no_other_server(call: Caller) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = SimpleNamespace(download_url=f"http://127.0.0.1:{port}/file", digest="")
    assert await call("results.content", link) == b"hi"
    server.close()
    await server.wait_closed()
    assert b"authorization" not in heads[0].lower()


async def test_a_cancelled_wait_leaves_no_connection(api: Api, way: Lossy) -> None:
    secret, _ = await tokens.create(
        api.pool, name="t", tenant_id=api.tenant_id, project_ids=None, roles=[Role.ADMIN]
    )
    named = {"tenant_id": str(api.tenant_id), "project_id": str(api.project_id)}
    async with AsyncClient(way.url, token=secret, **named) as client:  # type: ignore[arg-type]
        notebook = await client.notebooks.create(
            notebook_name="N", initial_cells=[{"cellType": "code", "content": "1"}]
        )
        run = await client.executions.run(notebook)
        waiting = asyncio.create_task(client.executions.wait(run))
        await way.until("prefer: wait=30")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(TimeoutError, match="has not ended"):
            await client.executions.wait(run, timeout=0)
        # What is left of the stream is closed with the loop over it.
        async with aclosing(client.executions.follow(run)) as events:
            assert (await anext(events)).type == "execution.requested.v1"


async def test_threads_and_tasks_share_a_client(call: Caller) -> None:
    made = await asyncio.gather(
        *(call("notebooks.create", notebook_name=str(number)) for number in range(20))
    )
    assert len({each.notebook_id for each in made}) == 20


async def test_an_error_of_the_service_is_its_class(call: Caller) -> None:
    empty = await call("notebooks.create", notebook_name="Empty")
    with pytest.raises(ConflictError) as refused:
        await call("executions.run", empty)
    assert refused.value.code == "nothing_to_execute"
    assert msgspec.json.encode(refused.value.problem)
