"""A server that speaks S3, as a process of its own; and settings that lead to it."""

from __future__ import annotations

import asyncio
import os
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nbledger_infrastructure.embedded.ports import free_port

PYTHON = Path(__file__).resolve().parents[2] / ".venv-s3" / "bin" / "python"
BUCKET = "kept"
_READY_SECONDS = 60.0

needs_s3 = pytest.mark.skipif(
    not PYTHON.exists(), reason="the S3 server is not installed; `make setup` does that"
)


class S3Server:
    """A running server with one empty bucket, `BUCKET`."""

    def __init__(self, port: int) -> None:
        self.host, self.port = "127.0.0.1", port

    async def call(self, method: str, path: str, body: bytes = b"") -> int:
        """Send a request as anybody; returns the status."""

        def send() -> int:
            request = urllib.request.Request(
                f"http://{self.host}:{self.port}{path}", data=body or None, method=method
            )
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                status: int = answer.status
                return status

        return await asyncio.to_thread(send)


@asynccontextmanager
async def s3_server(*, strict_after: int | None = None) -> AsyncIterator[S3Server]:
    """A server for the block; it checks credentials after so many requests, or never."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"]}
    if strict_after is not None:
        environment["INITIAL_NO_AUTH_ACTION_COUNT"] = str(strict_after)
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        "-c",
        # It ends with the tests, however they end.
        "import ctypes; ctypes.CDLL(None).prctl(1, 9)\n"
        f"from moto.server import main; main(['-p', '{port}'])",
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    server = S3Server(port)
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                try:
                    await server.call("PUT", f"/{BUCKET}")
                    break
                except OSError:
                    assert process.returncode is None, "the S3 server has ended"
                    await asyncio.sleep(0.05)
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def s3_variables(port: int) -> Mapping[str, str]:
    """The environment of a client of the server, or of a proxy to it, on this port."""
    return {
        "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


if sys.platform != "linux":
    needs_s3 = pytest.mark.skip(reason="the S3 server of the tests ends as Linux has it")
