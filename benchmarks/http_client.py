"""The smallest HTTP client that measures honestly: one socket, kept alive, one request at a time.

A real client library spends longer on a request than either server does, and would hide the
difference between them. The same bytes-in, bytes-out code drives both sides.
"""

from __future__ import annotations

import json
import socket
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

_GOOD = (b"http/1.1 200 ", b"http/1.1 201 ", b"http/1.1 202 ")


class Connection:
    """One keep-alive connection to `base_url`; `headers` go with every request."""

    def __init__(self, base_url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._prefix = parts.path.rstrip("/")
        fixed = {"Host": parts.netloc, "Accept": "application/json"} | headers
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self._buffer = b""

    def get(self, path: str) -> bytes:
        """The body of a 200 answer; raises RuntimeError for any other."""
        return self.send(self.prepare(path))

    def post(self, path: str, body: Any, headers: str = "") -> Any:
        """The decoded body of a 200, 201 or 202 answer to JSON; raises RuntimeError for others.

        `headers` are lines that end in CR LF.
        """
        content = json.dumps(body).encode()
        head = (
            f"POST {self._prefix}{path} HTTP/1.1\r\n{self._headers}{headers}"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return json.loads(self.send(head.encode() + content))

    def prepare(self, path: str, headers: str = "") -> bytes:
        """The bytes of a GET request for `path`; `headers` are lines that end in CR LF."""
        return f"GET {self._prefix}{path} HTTP/1.1\r\n{self._headers}{headers}\r\n".encode()

    def send(self, request: bytes) -> bytes:
        """Send a prepared request and return the body of its good answer."""
        self._socket.sendall(request)
        data = self._buffer
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._receive()
        head = data[:end].lower()
        if not head.startswith(_GOOD):
            raise RuntimeError(f"{request.split(b' ', 2)[1]!r} answered {data[: end + 400]!r}")
        at = head.index(b"content-length:") + len(b"content-length:")
        line = head.find(b"\r\n", at)
        length = int(head[at : line if line >= 0 else len(head)])
        body = end + 4
        while len(data) < body + length:
            data += self._receive()
        self._buffer = data[body + length :]
        return data[body : body + length]

    def _receive(self) -> bytes:
        received = self._socket.recv(1 << 18)
        if not received:
            raise RuntimeError("the server closed the connection")
        return received

    def requests_per_second(self, paths: list[str], seconds: float) -> float:
        """GET the paths round and round for `seconds`."""
        requests = [self.prepare(path) for path in paths]
        count = 0
        begin = time.perf_counter()
        end = begin + seconds
        while time.perf_counter() < end:
            self.send(requests[count % len(requests)])
            count += 1
        return count / (time.perf_counter() - begin)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
