"""Calls of the Python client against the same requests by httpx alone, one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx

from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare
from benchmarks.server import nbledger_server
from nbledger_client import AsyncClient, Client

CONCURRENT = 16


def client_calls(bench: Bench) -> list[Figure]:
    """The status of an execution and a list of notebooks, read by both."""
    seconds = 0.2 if bench.quick else 1.5
    with nbledger_server(bench.scratch / "up" / "home", 25) as server:
        root = server.url
        _, _, tenant_id, project_id, _, notebook_id, _, execution_id = server.status_path.split("/")
        run = (notebook_id, execution_id)
        token = server.headers["Authorization"].removeprefix("Bearer ")

        def awaited() -> float:
            return asyncio.run(_client_awaited(root, token, (tenant_id, project_id), run, seconds))

        def awaited_bare() -> float:
            return asyncio.run(_bare_awaited(server.url + server.status_path, token, seconds))

        with (
            Client(root, token=token, tenant_id=tenant_id, project_id=project_id) as client,
            httpx.Client(headers=server.headers, timeout=60) as bare,
        ):
            status = server.url + server.status_path
            page = f"{root}/api/{tenant_id}/{project_id}/notebooks?pageSize=100&page=1"
            rounds = bench.alternate(
                [
                    lambda: _rate(lambda: client.executions.get(run), seconds),
                    lambda: _rate(lambda: bare.get(status).raise_for_status().json(), seconds),
                    lambda: _rate(lambda: list(client.notebooks.list()), seconds),
                    lambda: _rate(lambda: bare.get(page).raise_for_status().json(), seconds),
                    awaited,
                    awaited_bare,
                ]
            )
    named = ("GET status", "GET list of 25", f"GET status, {CONCURRENT} at once, awaited")
    return [
        compare(
            figure=f"Python client, {name}",
            unit="calls/s",
            against="httpx alone",
            pairs=[(each[2 * index], each[2 * index + 1]) for each in rounds],
            bound=0.8,
        )
        for index, name in enumerate(named)
    ]


def _rate(call: Callable[[], object], seconds: float) -> float:
    call()
    begun, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < seconds:
        call()
        count += 1
    return count / spent


async def _client_awaited(
    root: str, token: str, place: tuple[str, str], run: tuple[str, str], seconds: float
) -> float:
    tenant_id, project_id = place
    async with AsyncClient(root, token=token, tenant_id=tenant_id, project_id=project_id) as client:
        await client.executions.get(run)
        return await _rate_awaited(lambda: client.executions.get(run), seconds)


async def _bare_awaited(url: str, token: str, seconds: float) -> float:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(headers=headers, timeout=60) as bare:

        async def call() -> object:
            return (await bare.get(url)).raise_for_status().json()

        await call()
        return await _rate_awaited(call, seconds)


async def _rate_awaited(call: Callable[[], Awaitable[object]], seconds: float) -> float:
    begun, count = time.perf_counter(), 0

    async def work() -> None:
        nonlocal count
        while time.perf_counter() - begun < seconds:
            await call()
            count += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENT):
            group.create_task(work())
    return count / (time.perf_counter() - begun)
