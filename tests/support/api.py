"""The real API on a real socket, over a database of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

import httpx
import msgspec

from nbledger_http.edge import server
from nbledger_http.edge.app import create_app
from nbledger_http.edge.middleware import Edge
from nbledger_http.requests.services import Services
from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.database import Pool, connect_pool
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.settings import Artifacts, Executions, Http, Postgres, Settings

_NO_TLS = ssl.create_default_context()
"""Tests speak plain HTTP, yet each client would load all certificates, 30 ms, for itself."""


@functools.lru_cache(maxsize=8)
def _document(content: bytes) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(content)
    return document


class Api:
    """A running API with a client for each role."""

    def __init__(self, url: str, pool: Pool, store: EventStore) -> None:
        self.url = url
        self.pool = pool
        self.store = store
        self.tenant_id, self.project_id = uuid4(), uuid4()
        self.base = f"/api/{self.tenant_id}/{self.project_id}"
        self.edge: Edge | None = None
        answer = httpx.get(f"{url}/schema/openapi.json", verify=_NO_TLS)
        self.document = _document(answer.content)
        self._clients: list[httpx.AsyncClient] = []

    async def client(
        self,
        *roles: Role,
        tenant_id: UUID | None = None,
        project_ids: list[UUID] | None = None,
        base: str | None = None,
    ) -> httpx.AsyncClient:
        """A client with a new token; its addresses are relative to the project."""
        secret, _ = await tokens.create(
            self.pool,
            name="tester",
            tenant_id=tenant_id or self.tenant_id,
            project_ids=project_ids,
            roles=roles or [Role.ADMIN],
        )
        return self.anonymous(
            base=self.base if base is None else base, headers={"Authorization": f"Bearer {secret}"}
        )

    def anonymous(
        self, *, base: str = "", headers: dict[str, str] | None = None
    ) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            base_url=self.url + base,
            headers=headers,
            timeout=20,
            verify=_NO_TLS,
            event_hooks={"response": [self._note]},
        )
        self._clients.append(client)
        return client

    async def until_in_hand(self, count: int) -> None:
        """Wait until a server of `running_api` is answering so many requests."""
        assert self.edge is not None
        async with asyncio.timeout(20):
            while self.edge.in_hand < count:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)

    async def _note(self, response: httpx.Response) -> None:
        request = response.request
        assert response.status_code != 500, response.request
        self._check_documented(request.method, request.url.path, response)
        assert response.headers["x-request-id"]

    def _check_documented(self, method: str, path: str, response: httpx.Response) -> None:
        """Every answer to a request that is in the description must be in it, too."""
        operation = documented_operation(self.document, method, path)
        if operation is not None:
            answer = operation["responses"].get(str(response.status_code))
            assert answer is not None, (method, path, response.status_code)

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


def settings_for(dsn: str, artifacts: Path, **http: Any) -> Settings:
    return Settings(
        postgres=Postgres(dsn=dsn, pool_size=4),
        artifacts=Artifacts(url=artifacts.as_uri()),
        http=msgspec.structs.replace(Http(port=0), **http),
        # Most tests have no worker, and ask what is told of runs that wait.
        execution=Executions(queue_without_worker=True),
    )


def documented_operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any] | None:
    """What the description says of this method and path."""
    method = "get" if method == "HEAD" else method.lower()
    for template, methods in document["paths"].items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", re.sub(r"\{(path|index)\}", ".+", template))
        # A literal path comes before one with a variable in the same place.
        if re.fullmatch(pattern, path) and (path.endswith("upload") <= template.endswith("upload")):
            found: dict[str, Any] | None = methods.get(method)
            return found
    return None


@contextlib.asynccontextmanager
async def running_api(
    settings: Settings, *, stop: asyncio.Event | None = None
) -> AsyncIterator[Api]:
    """Serve for the block, or until ``stop`` is set."""
    stop = stop or asyncio.Event()
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    made: list[Edge] = []

    def create(services: Services) -> Edge:
        made.append(create_app(services))
        return made[-1]

    with mock.patch.object(server, "create_app", create):
        serving = asyncio.create_task(server.serve(settings, stop=stop, on_ready=url.set_result))
        waited: set[asyncio.Future[Any]] = {serving, url}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving
    try:
        async with open_api(settings, await url) as api:
            (api.edge,) = made
            yield api
    finally:
        stop.set()
        async with asyncio.timeout(15):
            await serving


@contextlib.asynccontextmanager
async def open_api(settings: Settings, url: str) -> AsyncIterator[Api]:
    """What a test needs of an API that runs at ``url``."""
    pool = await connect_pool(settings.postgres.dsn, max_size=3, application_name="test")
    store = EventStore(pool)
    await store.start()
    api = await asyncio.to_thread(Api, url, pool, store)
    try:
        yield api
    finally:
        await api.close()
        await store.close()
        await pool.close()


def unknown_id() -> str:
    return str(uuid4())


async def new_notebook(client: httpx.AsyncClient, *sources: str, **members: Any) -> dict[str, Any]:
    """A notebook with code cells of these sources."""
    cells = [{"cellType": "code", "content": source} for source in sources]
    body = {"notebookName": "N", "initialCells": cells, **members}
    made = await client.post("/notebook", json=body)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found
