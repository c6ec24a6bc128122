"""What roles without an API answer about their health."""

from __future__ import annotations

import asyncio
import json

import pytest

from nbledger import health, role
from nbledger.embedded.ports import free_port
from nbledger_infrastructure.settings import HealthServer, Settings


async def ask(port: int, path: str) -> tuple[int, dict[str, object]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split(b" ")[1]), json.loads(body)


async def test_a_role_that_is_not_ready_says_what_it_lacks() -> None:
    lacking = ["artifact store: it cannot be written: it refuses connections"]
    port = free_port()
    async with health.serve(HealthServer(port=port), lambda: lacking):
        assert await ask(port, "/health/live") == (200, {"status": "live"})
        status, body = await ask(port, "/health/ready")
        assert (status, body) == (503, {"status": "not ready", "missing": lacking})
        lacking.clear()
        assert await ask(port, "/health/ready") == (200, {"status": "ready"})


async def test_a_role_that_cannot_do_all_of_its_work_is_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    monkeypatch.setattr(role, "stop_on_signals", lambda _: None)

    async def work(settings: Settings, stop: asyncio.Event, on_ready: role.OnReady) -> None:
        assert (await ask(port, "/health/ready"))[1]["missing"] == ["starting"]
        on_ready()
        on_ready.lacks("copies", None)
        assert (await ask(port, "/health/ready"))[0] == 200
        on_ready.lacks("copies", "the folder is not there")
        on_ready.lacks("key", "access denied")
        status, body = await ask(port, "/health/ready")
        assert status == 503
        assert body["missing"] == ["copies: the folder is not there", "key: access denied"]
        on_ready.lacks("copies", None)
        on_ready.lacks("key", None)
        assert (await ask(port, "/health/ready"))[0] == 200

    settings = Settings(health=HealthServer(port=port))
    await role._supervise("sealer", work, settings, uses_artifacts=False)
