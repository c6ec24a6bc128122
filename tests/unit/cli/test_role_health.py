"""What roles without an API answer about their health."""

from __future__ import annotations

import asyncio
import json

from nbledger import health
from nbledger.embedded.ports import free_port
from nbledger_infrastructure.settings import HealthServer


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
