"""What a hostile notebook is let loose on: a home as `nbledger up` has it, and more."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import Any
from uuid import UUID

import msgspec
from support.executions import Stage

import nbledger_workers
from nbledger_domain.execution import Execution
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope, open_store
from nbledger_infrastructure.kafka import clients
from nbledger_infrastructure.settings import HealthServer, Settings

_CODE = Path(nbledger_workers.__file__).parent


class Grounds:
    """The targets of one hostile notebook; `health` is a port that answers."""

    def __init__(self, home: Path, left: str, service: str, health: int) -> None:
        self.home = home
        self.health = health
        self._left = left
        self._service = service
        self._name = f"nbledger-hostile-{secrets.token_hex(6)}.pth"

    def settings(self, base: Settings, **worker: Any) -> Settings:
        """Those of a worker on these grounds."""
        changed = msgspec.structs.replace(base.worker, hidden_folders=[str(self.home)], **worker)
        return msgspec.structs.replace(base, worker=changed, health=HealthServer(port=self.health))

    def parameters(self, settings: Settings, *pids: int) -> dict[str, Any]:
        """What the notebook is told, who is to be spared nothing; `pids` are of the service."""
        return {
            "name": self._name,
            "environment": [sysconfig.get_path("purelib"), sys.prefix],
            "checkout": [str(_CODE)],
            "home": [str(self.home / "server.json"), str(self.home / "nbledger.toml")],
            "artifacts": str(self.home / "artifacts"),
            "run": str(self.home / "work/nbledger-worker-x/run-x"),
            "temporary": self._left,
            "secret": settings.postgres.dsn,
            "pids": list(pids),
            "namespace": str(Path("/proc/self/ns/pid").readlink()),
            "postgres": int(settings.postgres.dsn.rpartition(":")[2].partition("/")[0]),
            "broker": int(settings.kafka.bootstrap_servers.rpartition(":")[2]),
            "topic": clients.events_topic(settings.kafka),
            "health": self.health,
            "socket": self._service,
        }

    def tidied(self) -> list[Path]:
        """What the notebook has left where it should not have been: removed, and told."""
        purelib = Path(sysconfig.get_path("purelib"))
        places = [purelib, Path(sys.prefix), _CODE, Path("/usr/local/bin"), Path("/etc")]
        found = [place / self._name for place in places if (place / self._name).exists()]
        for each in found:
            each.unlink()
        return found


@contextmanager
def grounds() -> Iterator[Grounds]:
    """A home with the folder of another run; what somebody left in /tmp; a socket of the system."""
    home, run = Path(mkdtemp(prefix="nbh-", dir="/tmp")), Path(mkdtemp(prefix="nbh-", dir="/run"))
    try:
        _furnish(home)
        run.chmod(0o755)
        with (
            socket.socket(socket.AF_UNIX) as service,
            socket.create_server(("127.0.0.1", 0), backlog=1000) as health,
            NamedTemporaryFile(prefix="nbh-", dir="/tmp") as left,
        ):
            service.bind(str(run / "s"))
            service.listen()
            (run / "s").chmod(0o777)
            left.write(b"of somebody else\n")
            left.flush()
            Path(left.name).chmod(0o644)
            yield Grounds(home, left.name, str(run / "s"), health.getsockname()[1])
    finally:
        shutil.rmtree(home)
        shutil.rmtree(run)


def _furnish(home: Path) -> None:
    home.chmod(0o711)
    other = home / "work/nbledger-worker-x/run-x"
    for folder, mode in ((home / "work", 0o755), (other.parent, 0o755), (other, 0o700)):
        folder.mkdir(mode=mode)
    for path in (home / "server.json", home / "nbledger.toml", other / "data"):
        path.write_text("# secret\n")
        path.chmod(0o600)


async def printed(scene: Stage, execution_id: UUID) -> list[Any]:
    """What the cells have printed last, which is JSON."""
    (first, *_) = await scene.history(execution_id)
    scope = Scope(first.tenant_id, first.project_id, first.subject_id)
    artifacts = ArtifactStore(open_store(scene.settings.artifacts.url))
    told = []
    for cell in await scene.events(execution_id, Execution.CellExecuted):
        texts = [
            (await artifacts.get(scope, form.digest)).decode()
            for output in cell.outputs
            for form in output.representations
        ]
        assert cell.error is None, (cell.error, texts)
        told.append(json.loads("".join(texts).strip().splitlines()[-1]))
    return told
