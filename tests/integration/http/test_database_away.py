"""What the API answers while its database does not: within five seconds, and in so many words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.api import Api, new_notebook, running_api, settings_for
from support.event_store import commits_held, wait_for_blocked
from support.proxy import Proxy, database_proxy

pytestmark = pytest.mark.stalls("answers are bounded in seconds of the clock")

ANSWER_SECONDS = 5.0
_GRACE = 3.0
"""For a machine that is busy with other tests."""


@pytest.fixture
async def served(database_dsn: str, tmp_path: Path) -> AsyncIterator[tuple[Api, Proxy]]:
    """An API whose way to the database is ours, with a direct one for the test."""
    async with (
        database_proxy(database_dsn) as (proxy, dsn),
        running_api(settings_for(dsn, tmp_path / "a")) as api,
    ):
        yield api, proxy
        proxy.flow()


async def _timed(request: Any) -> tuple[httpx.Response, float]:
    begun = time.monotonic()
    response: httpx.Response = await request
    return response, time.monotonic() - begun


def _requests(
    client: httpx.AsyncClient, anonymous: httpx.AsyncClient, notebook: str, run: str
) -> dict[str, Any]:
    """One of each kind of request, begun when awaited."""
    path, execution = f"/notebook/{notebook}", f"/notebook/{notebook}/execution/{run}"
    waits = {"Prefer": "wait=30"}
    return {
        "one": client.get(path),
        "list": client.get("/notebooks"),
        "list that waits": client.get(
            "/notebooks", headers={**waits, "Nbledger-Position": "99999"}
        ),
        "history": client.get(f"{path}/history"),
        "results": client.get(f"{execution}/results"),
        "events": client.get(f"{execution}/events"),
        "kernels": client.get("/kernels"),
        "create": client.post("/notebook", json={"notebookName": "z"}),
        "change": client.put(path, json={"notebookName": "y"}),
        "execute": client.post(f"{path}/execute", json={}),
        "cancel": client.post(f"{execution}/cancel"),
        "delete": client.delete(path),
        "ready": anonymous.get("/health/ready"),
    }


@pytest.mark.guarantee("G22")
@pytest.mark.parametrize("how", ["stalled", "refusing"])
async def test_every_request_is_answered_in_time(served: tuple[Api, Proxy], how: str) -> None:
    api, proxy = served
    client = await api.client()
    notebook = (await new_notebook(client, "x"))["notebookId"]
    execution = (await client.post(f"/notebook/{notebook}/execute", json={})).json()
    run = execution["executionId"]
    path = f"/notebook/{notebook}"
    waits = {"Prefer": "wait=60"}
    # Those that were there before: they wait for news when the database goes.
    begun = [
        asyncio.create_task(client.get(f"{path}/execution/{run}", headers=waits)),
        asyncio.create_task(
            client.get("/notebooks", headers={**waits, "Nbledger-Position": "99999"})
        ),
    ]
    await api.until_in_hand(2)
    # Both have found that there is nothing new, and follow.
    await asyncio.sleep(0.3)
    if how == "stalled":
        proxy.stall()
    else:
        await proxy.refuse()
    gone_at = time.monotonic()
    # First as they come while nothing is known of it yet, then again when it is.
    for _ in range(2):
        asked = _requests(client, api.anonymous(), notebook, run)
        answers = await asyncio.gather(*map(_timed, asked.values()))
        for name, (answer, seconds) in zip(asked, answers, strict=True):
            assert answer.status_code == 503, (name, answer.text)
            assert answer.headers["retry-after"], name
            assert seconds < ANSWER_SECONDS + _GRACE, (name, seconds)
            if name != "ready":
                assert answer.json()["code"] in ("unavailable", "outcome_unknown"), name
    for waiting in begun:
        async with asyncio.timeout(ANSWER_SECONDS + _GRACE):
            assert (await waiting).status_code == 503
    assert time.monotonic() - gone_at < 2 * (ANSWER_SECONDS + _GRACE)
    assert (await api.anonymous().get("/health/live")).status_code == 200
    if how == "stalled":
        proxy.flow()
    else:
        await proxy.start()
    async with asyncio.timeout(20):
        while (await client.get(path)).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_write_that_may_have_been_made_is_called_so(
    served: tuple[Api, Proxy], database_dsn: str
) -> None:
    api, proxy = served
    client = await api.client()
    notebook = (await new_notebook(client, "x"))["notebookId"]
    async with commits_held(database_dsn):
        asked = asyncio.create_task(client.put(f"/notebook/{notebook}", json={"notebookName": "y"}))
        await wait_for_blocked(database_dsn)
        # The append is with the database when that stops: what becomes of it, nobody can tell.
        proxy.stall()
        async with asyncio.timeout(ANSWER_SECONDS + _GRACE):
            answer = await asked
    assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown")
    assert answer.headers["retry-after"]
    proxy.flow()
    async with asyncio.timeout(20):
        while (found := await client.get(f"/notebook/{notebook}")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert found.json()["notebookName"] in ("N", "y")
