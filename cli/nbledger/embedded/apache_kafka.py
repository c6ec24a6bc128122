"""Apache Kafka, one node in KRaft mode, from its Maven artifacts: for machines without containers.

Needs Java 17 or later, and Maven once, to fetch the jars. Part of the checkout, not of the wheel:
the versions stand in `deploy/kafka/pom.xml`. Run it in the foreground with

    python -m nbledger.embedded.apache_kafka
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from aiokafka.helpers import create_ssl_context

from nbledger.embedded.broker import EmbeddedBroker, wait_until_ready
from nbledger.embedded.errors import EmbeddedError, ServiceFailedError
from nbledger.embedded.ports import LOOPBACK, free_port, start_on_port
from nbledger.embedded.processes import spawn, terminate, wait

CACHE_VARIABLE = "NBLEDGER_KAFKA_CACHE"
"""Environment variable: the folder for the jars, instead of `.cache/kafka` in the checkout."""

_CHECKOUT = Path(__file__).resolve().parents[3]
_POM = _CHECKOUT / "deploy" / "kafka" / "pom.xml"
_LOGGING = _POM.with_name("log4j2.properties")

_FETCH_SECONDS = 600.0
_FORMAT_SECONDS = 60.0
_READY_SECONDS = 90.0
_STOP_SECONDS = 15.0
# A start in half the time, and little memory: this node serves one machine.
_JVM_OPTIONS = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Security:
    """A broker that lets in nobody without TLS and a password, and checks rights.

    `keystore` is a PKCS #12 file with the broker's key and certificate. `users` are names with
    their passwords, known by SCRAM-SHA-512; `administrator`, one of them, may do everything, the
    others what ACLs allow. `ca_file` is what clients trust, in PEM.
    """

    keystore: Path
    keystore_password: str = field(repr=False)
    ca_file: Path
    users: Mapping[str, str] = field(repr=False)
    administrator: str

    def client(self, user: str) -> dict[str, Any]:
        """Options of an aiokafka client that logs in as the user."""
        return {
            "security_protocol": "SASL_SSL",
            "ssl_context": create_ssl_context(cafile=str(self.ca_file)),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": user,
            "sasl_plain_password": self.users[user],
        }


async def start_apache_kafka(
    work_dir: Path,
    *,
    port: int = 0,
    instance: str | None = None,
    security: Security | None = None,
) -> EmbeddedBroker:
    """Start one node on 127.0.0.1 and return once it answers a metadata request.

    Topics are not made by asking about them: create them. Call it on the thread that lives as
    long as the broker shall: on Linux it shuts down when that thread ends.

    Args:
        work_dir: folder for its configuration, log and data, which outlive it.
        port: TCP port for clients; 0 takes any free one.
        instance: id of the home for NBLEDGER_INSTANCE; None keeps the inherited one.
        security: None serves everybody on this machine, in plain text.

    Raises:
        EmbeddedError: Java or Maven is missing, or the jars cannot be fetched.
        ServiceFailedError: it ended early, did not answer in time, or the port is taken.
    """
    work_dir = Path(os.path.abspath(work_dir))  # noqa: PTH100, ASYNC240 - looks at no disk
    await asyncio.to_thread(work_dir.mkdir, parents=True, exist_ok=True)
    log_file = work_dir / "kafka.log"
    jars = await kafka_jars(log_file)

    async def start(chosen: int) -> EmbeddedBroker:
        return await _serve(work_dir, jars, log_file, chosen, instance=instance, security=security)

    return await start_on_port("kafka", port, start)


async def kafka_jars(log_file: Path) -> Path:
    """The folder with the jars of the pinned version, fetched if it is not there yet.

    Raises:
        EmbeddedError: this is no checkout, or they cannot be fetched.
    """
    if not _POM.is_file():
        raise EmbeddedError(f"{_POM} is missing: Apache Kafka can be started from a checkout only")
    version = hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get(CACHE_VARIABLE) or _CHECKOUT / ".cache" / "kafka")
    jars = cache / version
    if jars.is_dir():
        return jars
    await asyncio.to_thread(cache.mkdir, parents=True, exist_ok=True)
    _log.info("fetching the jars of apache kafka", into=str(jars))
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        fetched = Path(scratch) / "jars"
        await _run(
            [
                "mvn",
                "--quiet",
                "--batch-mode",
                f"--file={_POM}",
                "dependency:copy-dependencies",
                f"-DoutputDirectory={fetched}",
                "-DincludeScope=runtime",
            ],
            log_file,
            _FETCH_SECONDS,
        )
        try:
            fetched.rename(jars)
        except OSError:
            # Somebody else was faster.
            if not jars.is_dir():
                raise
    return jars


async def _serve(
    work_dir: Path,
    jars: Path,
    log_file: Path,
    port: int,
    *,
    instance: str | None,
    security: Security | None,
) -> EmbeddedBroker:
    configuration = work_dir / "server.properties"
    data = work_dir / "data"
    configuration.write_text(_properties(data, port, free_port(), security))
    java = ["java", *_JVM_OPTIONS, f"-Dlog4j2.configurationFile={_LOGGING}", "-cp", f"{jars}/*"]
    if not (data / "meta.properties").exists():
        # A format that was cut short leaves no meta.properties, and nothing of value.
        await asyncio.to_thread(shutil.rmtree, data, ignore_errors=True)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        tool = ["kafka.tools.StorageTool", "format", f"--config={configuration}"]
        users = [] if security is None else list(security.users.items())
        scram = [
            f"--add-scram=SCRAM-SHA-512=[name={name},password={password}]"
            for name, password in users
        ]
        await _run([*java, *tool, f"--cluster-id={cluster}", *scram], log_file, _FORMAT_SECONDS)
    process = spawn([*java, "kafka.Kafka", configuration], instance=instance, log_file=log_file)
    try:
        client = None if security is None else security.client(security.administrator)
        await wait_until_ready(
            "kafka", process, port, log_file, limit=_READY_SECONDS, client=client
        )
    except BaseException:
        await terminate(process, 0)
        raise
    _log.info("apache kafka is ready", pid=process.pid, port=port)
    return EmbeddedBroker(f"{LOOPBACK}:{port}", log_file, process, stop_seconds=_STOP_SECONDS)


def _properties(data: Path, port: int, controller_port: int, security: Security | None) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        # One node: nothing can be replicated.
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "log.cleaner.dedupe.buffer.size": "16777216",
    }
    if security is not None:
        settings |= _secured(security, port, controller_port)
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _secured(security: Security, port: int, controller_port: int) -> dict[str, str]:
    # The broker logs in to others of its kind as the administrator.
    name = security.administrator
    login = (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="{name}" password="{security.users[name]}";'
    )
    return {
        "listeners": f"CLIENT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"CLIENT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "CLIENT:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.client.scram-sha-512.sasl.jaas.config": login,
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(security.keystore),
        "ssl.keystore.password": security.keystore_password,
        "ssl.key.password": security.keystore_password,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(security.ca_file),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        # The node itself is anonymous on the listener of the controller, where no client comes.
        "super.users": f"User:{security.administrator};User:ANONYMOUS",
    }


async def _run(argv: Sequence[str | Path], log_file: Path, limit: float) -> None:
    """Run a program to its end.

    Raises:
        ServiceFailedError: it ended with another status than 0, or took over `limit` seconds.
    """
    name = str(argv[0])
    process = spawn(argv, log_file=log_file, death_signal=signal.SIGKILL)
    try:
        async with asyncio.timeout(limit):
            status = await wait(process)
    except TimeoutError:
        raise ServiceFailedError(name, f"did not end within {limit:g} s", log_file) from None
    finally:
        await terminate(process, 0)
    if status != 0:
        raise ServiceFailedError(name, f"ended with status {status}", log_file)


async def _foreground(work_dir: Path, port: int) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    broker = await start_apache_kafka(work_dir, port=port)
    try:
        print(f"Apache Kafka serves {broker.bootstrap_servers}; Ctrl-C ends it", flush=True)  # noqa: T201
        asked = asyncio.create_task(stop.wait())
        ended = asyncio.create_task(wait(broker.process))
        await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
        for task in (asked, ended):
            task.cancel()
        await asyncio.gather(asked, ended, return_exceptions=True)
        if stop.is_set():
            return 0
        raise ServiceFailedError("kafka", "ended by itself", broker.log_file)
    finally:
        await broker.stop()


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line; each has a default."""
    parser = argparse.ArgumentParser(prog="apache_kafka", description=main.__doc__)
    parser.add_argument(
        "--port", type=int, default=9092, help="TCP port on 127.0.0.1 (default: %(default)s)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("NBLEDGER_HOME") or ".nbledger") / "apache-kafka",
        help="folder for log and data (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run Apache Kafka in the foreground until SIGINT or SIGTERM; return the exit status."""
    options = options_of(arguments)
    try:
        return asyncio.run(_foreground(options.data, options.port))
    except EmbeddedError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
