"""A deployment: every role a process of its own, on the servers that the settings name."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from support.roles import ROLES, sealing
from support.services import kafka_name

from nbledger import notify
from nbledger.embedded.ports import free_port
from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.database import connect_pool

pytestmark = pytest.mark.timeout(180)
READY_SECONDS = 60
RUN_SECONDS = 90
TERMINAL = {"execution.completed.v1", "execution.failed.v1", "execution.kernel-died.v1"}


def nbledger(command: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "nbledger", command],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


@asynccontextmanager
async def role(
    name: str, settings: dict[str, str], folder: Path, socket: Path
) -> AsyncIterator[tuple[subprocess.Popen[bytes], int, dict[str, str]]]:
    """A ready role: its process, its health port, and what it told when it became ready."""
    port = free_port()
    environment = {
        **settings,
        "NBLEDGER_HTTP_PORT": "0",
        "NBLEDGER_HEALTH_PORT": "0" if name == "api" else str(port),
        "NOTIFY_SOCKET": str(socket),
    }
    log = folder / f"{name}.log"
    async with notify.listen(socket) as listener:
        process = nbledger(name, environment, log)
        try:
            async with asyncio.timeout(READY_SECONDS):
                details = await listener.ready
            yield process, port, details
        except TimeoutError:
            raise AssertionError(f"{name} is not ready: {log.read_text()}") from None
        finally:
            process.kill()
            process.wait()


async def events_of(
    consumer: AIOKafkaConsumer, execution_id: str
) -> list[tuple[int, int, str, bytes]]:
    """The execution's events as a subscriber gets them, up to the terminal one."""
    found: list[tuple[int, int, str, bytes]] = []
    async for message in consumer:
        headers = {name: value.decode() for name, value in message.headers}
        if headers["ce_subject"] != execution_id:
            continue
        assert message.key == execution_id.encode()
        assert message.value is not None
        found.append(
            (
                int(headers["ce_position"]),
                int(headers["ce_streamversion"]),
                headers["ce_type"].removeprefix("nbledger."),
                message.value,
            )
        )
        if found[-1][2] in TERMINAL:
            break
    return found


async def test_a_notebook_runs_through_separate_processes(
    database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    settings = {
        "NBLEDGER_POSTGRES_DSN": database_dsn,
        "NBLEDGER_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "NBLEDGER_KAFKA_TOPIC_PREFIX": topic_prefix,
        "NBLEDGER_KAFKA_IDEMPOTENT": str(kafka_name() == "apache").lower(),
        "NBLEDGER_KAFKA_SESSION_TIMEOUT_SECONDS": "6" if kafka_name() == "apache" else "1",
        "NBLEDGER_ARTIFACTS_URL": (tmp_path / "artifacts").as_uri(),
        "NBLEDGER_WORKER_WORK_FOLDER": str(tmp_path / "work"),
        "NBLEDGER_WORKER_SHUTDOWN_GRACE_SECONDS": "3",
        **sealing(tmp_path),
    }
    migrated = nbledger("migrate", settings, tmp_path / "migrate.log")
    assert await asyncio.to_thread(migrated.wait, 60) == 0
    tenant, project = uuid4(), uuid4()
    pool = await connect_pool(database_dsn, max_size=1, application_name="test")
    token, _ = await tokens.create(
        pool, name="ada", tenant_id=tenant, project_ids=[project], roles=[tokens.Role.EDITOR]
    )
    await pool.close()

    async with AsyncExitStack() as stack:
        socket = await stack.enter_async_context(notify.sockets())
        started = await asyncio.gather(
            *(
                stack.enter_async_context(role(name, settings, tmp_path, socket(name)))
                for name in ROLES
            )
        )
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        for _, port, _ in started[1:]:
            for path in ("live", "ready"):
                answer = await client.get(f"http://127.0.0.1:{port}/health/{path}")
                assert answer.status_code == 200
        url = started[0][2]["url"]
        client.headers["Authorization"] = f"Bearer {token}"
        base = f"{url}/api/{tenant}/{project}"
        consumer = AIOKafkaConsumer(
            f"{topic_prefix}.events", bootstrap_servers=kafka, auto_offset_reset="earliest"
        )
        await consumer.start()
        stack.push_async_callback(consumer.stop)

        cell = {"cellType": "code", "content": "print(6 * 7)"}
        created = await client.post(
            f"{base}/notebook", json={"notebookName": "n", "initialCells": [cell]}
        )
        notebook = f"{base}/notebook/{created.json()['notebookId']}"
        execution = (await client.post(f"{notebook}/execute")).json()["executionId"]
        async with asyncio.timeout(RUN_SECONDS):
            events = await events_of(consumer, execution)

        assert [version for _, version, _, _ in events] == list(range(1, len(events) + 1))
        assert sorted(events) == events, "positions rise"
        assert events[0][2] == "execution.requested.v1"
        assert events[-1][2] == "execution.completed.v1"
        assert all(isinstance(json.loads(value), dict) for *_, value in events)
        status = (await client.get(f"{notebook}/execution/{execution}")).json()
        assert status["status"] == "Completed"
        results = await client.get(
            f"{notebook}/execution/{execution}/results", params={"format": "detailed"}
        )
        assert results.json()["outputs"][0]["content"] == "42\n"

        for process, _, _ in started:
            process.send_signal(signal.SIGTERM)
        ended = [await asyncio.to_thread(process.wait, 15) for process, _, _ in started]
        logs = "\n".join((tmp_path / f"{name}.log").read_text() for name in ROLES)
        assert ended == [0] * len(ROLES), logs
