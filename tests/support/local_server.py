"""``nbledger up`` as a process of its own, started and ended as a person would."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from nbledger.embedded.home import ServerInfo, read_server_json

READY_SECONDS = 90.0
STOP_SECONDS = 10.0


class LocalServer:
    """One ``nbledger up`` on a home folder, with a free port."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.printed = ""
        """What it had printed when it was stopped last."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running command."""
        if self._process is None:
            raise AssertionError("the server has not been started")
        return self._process

    @property
    def info(self) -> ServerInfo:
        """What the running server wrote into its home."""
        info = read_server_json(self.home)
        if info is None:
            raise AssertionError("there is no server.json")
        return info

    @property
    def base(self) -> str:
        """The address of the project's resources."""
        return f"{self.info.url}/api/{self.info.tenant_id}/{self.info.project_id}"

    @property
    def headers(self) -> dict[str, str]:
        """What a request needs to be let in."""
        return {"Authorization": f"Bearer {self.info.token}"}

    def command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start an ``nbledger`` command on this home."""
        return subprocess.Popen(
            [sys.executable, "-m", "nbledger", *arguments],
            env={
                **os.environ,
                "NBLEDGER_HOME": str(self.home),
                "NBLEDGER_PORT": "0",
                **self._environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def start(self) -> None:
        """Start it and wait until it says that it is ready, as it would say to systemd."""
        with tempfile.TemporaryDirectory(prefix="nbl-") as folder:
            path = f"{folder}/n"
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
                listener.bind(path)
                listener.settimeout(READY_SECONDS)
                self._environment["NOTIFY_SOCKET"] = path
                self._process = self.command("up")
                try:
                    message = listener.recv(4096)
                except TimeoutError:
                    raise AssertionError(f"not ready: {self.kill_and_read()}") from None
                assert b"READY=1" in message

    def stop(self) -> float:
        """Press Ctrl-C; returns the seconds until it had ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        try:
            output, _ = self.process.communicate(timeout=STOP_SECONDS * 3)
            self.printed = output.decode(errors="replace")
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end: {self.kill_and_read()}") from None
        return time.monotonic() - began

    def kill_and_read(self) -> str:
        """End it the hard way, with all that it left; returns what it printed."""
        members = self.members()
        self.process.kill()
        output, _ = self.process.communicate(timeout=STOP_SECONDS)
        for member in members:
            with contextlib.suppress(psutil.Error):
                member.kill()
        return output.decode(errors="replace")

    def members(self) -> list[psutil.Process]:
        """Every process that belongs to the home now."""
        instance = (self.home / "instance").read_text().strip()
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("NBLEDGER_INSTANCE") == instance:
                    found.append(process)
        return found


@contextlib.contextmanager
def local_server(environment: Mapping[str, str] | None = None) -> Iterator[LocalServer]:
    """A running server on a fresh home, ended and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="nbh-", ignore_cleanup_errors=True) as folder:
        # The database may run as another user, who has to pass through.
        Path(folder).chmod(0o711)
        server = LocalServer(Path(folder) / "home", environment)
        server.start()
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.stop()
