"""A run takes longer than usual on a running service: the notice is on the topic while it runs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import requests
from aiokafka import AIOKafkaConsumer, TopicPartition
from support.local_server import LocalServer

SECONDS = 90.0
pytestmark = pytest.mark.timeout(SECONDS + 60)

NOTEBOOK = {
    "notebookName": "Usually quick",
    "initialCells": [
        {"cellType": "code", "content": "seconds = 0", "tags": ["parameters"]},
        {"cellType": "code", "content": "import time; time.sleep(seconds)"},
    ],
}


class Consumer:
    """Reads the topic of events from where it is now."""

    def __init__(self, server: LocalServer) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=server.info.kafka)

    async def start(self) -> None:
        await self._consumer.start()
        numbers = self._consumer.partitions_for_topic("nbledger.events") or set()
        partitions = [TopicPartition("nbledger.events", number) for number in numbers]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_end(*partitions)
        for each in partitions:
            await self._consumer.position(each)

    async def first(self, ce_type: str, execution_id: str) -> tuple[dict[str, str], Any]:
        """The headers and the data of the first event of this type that names the run."""
        async with asyncio.timeout(SECONDS):
            async for message in self._consumer:
                headers = {name: value.decode() for name, value in message.headers}
                if headers["ce_type"] == ce_type:
                    data = json.loads(message.value or b"null")
                    if data and data.get("executionId", headers["ce_subject"]) == execution_id:
                        return headers, data
        raise TimeoutError(ce_type)

    async def stop(self) -> None:
        await self._consumer.stop()


@pytest.mark.guarantee("G36")
async def test_a_slow_run_is_on_the_topic_while_it_runs(server: LocalServer) -> None:
    def ask(method: str, path: str, **options: Any) -> Any:
        headers = {**server.headers, **options.pop("headers", {})}
        answer = requests.request(
            method, f"{server.base}{path}", headers=headers, timeout=90, **options
        )
        assert answer.ok, answer.text
        return answer.json()

    def run(seconds: float) -> str:
        body = {"parameters": {"seconds": seconds}}
        made: str = ask("POST", f"/notebook/{notebook}/execute", json=body)["executionId"]
        return made

    notebook = ask("POST", "/notebook", json=NOTEBOOK)["notebookId"]
    for _ in range(5):
        path = f"/notebook/{notebook}/execution/{run(0)}"
        assert ask("GET", path, headers={"Prefer": "wait=60"})["status"] == "Completed"
    consumer = Consumer(server)
    await consumer.start()
    try:
        slow = await asyncio.to_thread(run, SECONDS)
        headers, data = await consumer.first("nbledger.notice.run-slow.v1", slow)
    finally:
        await consumer.stop()
    assert headers["ce_notebookid"] == data["notebookId"] == notebook
    assert headers["ce_source"].endswith(f"/notebook/{notebook}")
    assert data["usual"]["runs"] == 5
    assert data["usual"]["high"] < 5
    assert data["seconds"] > data["thresholdSeconds"]
    path = f"/notebook/{notebook}/execution/{slow}"
    status = await asyncio.to_thread(ask, "GET", path)
    assert status["status"] == "Running"
    assert status["durationWarning"]["thresholdSeconds"] == data["thresholdSeconds"]
    await asyncio.to_thread(ask, "POST", f"{path}/cancel")
    ended = await asyncio.to_thread(ask, "GET", path, headers={"Prefer": "wait=60"})
    assert ended["status"] == "Cancelled"
    assert "durationWarning" in ended
    listed = await asyncio.to_thread(
        ask,
        "GET",
        "/notices?kind=runSlow",
        headers={"Nbledger-Position": headers["ce_position"], "Prefer": "wait=30"},
    )
    (notice,) = [each for each in listed["notices"] if each["executionId"] == slow]
    assert notice["position"] == int(headers["ce_position"])
    await asyncio.to_thread(
        requests.delete, f"{server.base}/notebook/{notebook}?force=true", headers=server.headers
    )
