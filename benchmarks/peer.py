"""Starting the peers: their environment, and a handle on each peer's process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHECKOUT = Path(__file__).resolve().parent.parent
ENVIRONMENT = CHECKOUT / ".venv-bench"
PYTHON = ENVIRONMENT / ("Scripts" if sys.platform == "win32" else "bin") / "python"


class PeerMissingError(RuntimeError):
    """The peers' environment is not there; `make bench` creates it."""


def require_environment() -> None:
    """Raise PeerMissingError unless the peers' Python is there."""
    if not PYTHON.exists():
        raise PeerMissingError(
            f"{ENVIRONMENT} is missing: create it and install requirements/bench.txt into it "
            "with --require-hashes (`make bench` does both)"
        )


class Peer:
    """One peer in a process of its own; a context manager that ends it."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [PYTHON, "-m", f"benchmarks.peers.{module}"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Run the peer's handler `do` and return its answer.

        Raises RuntimeError if the peer ended instead; its traceback is on stderr.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do} | arguments) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"peer {self._module} ended during {do!r}: see its error above")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
