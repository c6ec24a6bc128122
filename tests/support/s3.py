"""A server that speaks S3, as a process of its own; and what a client of it is told."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.paths import ROOT

from nbledger.embedded.ports import free_port

PYTHON = ROOT / ".venv-s3" / "bin" / "python"
_READY_SECONDS = 60.0
# It ends with the tests, however they end.
_PROGRAM = """
import ctypes, sys
ctypes.CDLL(None).prctl(1, 9)
from moto.server import main
main(sys.argv[1:])
"""

needs_s3 = pytest.mark.skipif(
    sys.platform != "linux" or not PYTHON.exists(),
    reason="the S3 server of the tests is not installed; on Linux `make setup` does that",
)

FULL = (
    b"HTTP/1.1 507 Insufficient Storage\r\nContent-Type: application/xml\r\n"
    b"Content-Length: 91\r\nConnection: close\r\n\r\n"
    b"<Error><Code>XStorageFull</Code><Message>The storage backend has no room.</Message></Error>"
)
"""What a server without room answers."""


class S3Server:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.host, self.port = "127.0.0.1", port

    def new_bucket(self) -> str:
        """The name of a new bucket."""
        name = f"b{uuid.uuid4().hex}"
        self._call("PUT", f"/{name}")
        return name

    def _call(self, method: str, path: str) -> None:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request(method, path)
            assert connection.getresponse().status == 200
        finally:
            connection.close()


@contextmanager
def s3_server(*, strict_after: int | None = None) -> Iterator[S3Server]:
    """A server for the block; it checks credentials after so many requests, or never."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"]}
    if strict_after is not None:
        environment["INITIAL_NO_AUTH_ACTION_COUNT"] = str(strict_after)
    process = subprocess.Popen(
        [PYTHON, "-c", _PROGRAM, "-p", str(port)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = S3Server(port)
    limit = time.monotonic() + _READY_SECONDS
    try:
        while True:
            try:
                socket.create_connection((server.host, port), timeout=10).close()
                break
            except OSError:
                assert process.poll() is None, "the S3 server has ended"
                assert time.monotonic() < limit, "the S3 server does not answer"
                time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.wait()


def s3_variables(port: int, *, key: str = "test") -> dict[str, str]:
    """The environment of a client of the server, or of a proxy to it, on this port."""
    return {
        "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": key,
    }
