"""A bare static file server, in a process of its own: what the system can serve at best.

It sends one file, headers first, with sendfile(2), as nginx does; it knows nothing else.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def static_server(file: Path) -> Iterator[int]:
    """Serve `file` for the block; the port."""
    process = subprocess.Popen([sys.executable, __file__, str(file)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def _serve(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            connection, _ = server.accept()
            with connection, file.open("rb") as content:
                connection.recv(65_536)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {file.stat().st_size}\r\n\r\n"
                connection.sendall(head.encode())
                connection.sendfile(content)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
