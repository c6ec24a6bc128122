"""Replays of events by the API: admins ask for them, follow them, and end them."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import msgspec
import pytest
from support.api import Api, unknown_id
from support.read_models import running
from support.replays import fill, messages_in, positions
from support.services import kafka_name
from support.shared_api import ServerThread, api, api_server
from support.topics import told_by

from nbledger_infrastructure.kafka.replays import manager
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.settings import Kafka

__all__ = ["api", "api_server"]


def topic_of_its_own() -> str:
    return f"nbledger.replay.{uuid4().hex}"


@pytest.mark.guarantee("G57")
async def test_a_replay_is_asked_for_carried_out_and_followed(
    api: Api, api_server: ServerThread, kafka: str
) -> None:
    client = await api.client(Role.ADMIN)
    await fill(api.store, 3, 20, tenant=api.tenant_id, project=api.project_id)
    await fill(api.store, 1, 5, tenant=api.tenant_id, project=uuid4())
    head = await api.store.head_position()
    topic = topic_of_its_own()
    asked = await client.post("/event-replay", json={"topic": topic})
    assert asked.status_code == 202, asked.text
    told = asked.json()
    assert (told["state"], told["from"], told["to"], told["published"]) == ("waiting", 1, head, 0)
    address = asked.headers["location"]
    path = address.removeprefix(api.base)
    broker = Kafka(bootstrap_servers=kafka, idempotent=kafka_name() == "apache")
    settings = msgspec.structs.replace(api_server.settings, kafka=broker)
    async with running(manager.run, settings), asyncio.timeout(30):
        # Nobody is told when it is over.
        while (told := (await client.get(path)).json())["state"] != "completed":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (told["published"], told["problem"]) == (60, None)
    found = await messages_in(settings, topic, events=60)
    assert len(positions(found)) == 60
    assert {told_by(each)["projectid"] for each in found} == {str(api.project_id)}
    assert {told_by(each)["replay"] for each in found} == {"true"}
    listed = (await client.get("/event-replay")).json()
    assert (listed["replays"], listed["totalCount"]) == ([told], 1)
    ended = await client.post(f"{path}/cancel")
    assert (ended.status_code, ended.json()["code"]) == (409, "replay_ended")
    reads = (await client.get("/history-reads")).json()["reads"]
    exported = [each for each in reads if each["manner"] == "export"]
    assert [(each["history"], each["after"], each["until"]) for each in exported] == [
        ("project", 0, head)
    ]


async def test_one_that_is_cancelled_is_over_and_so_many_wait_at_most(api: Api) -> None:
    client = await api.client(Role.ADMIN)
    asked = [
        await client.post("/event-replay", json={"topic": topic_of_its_own(), "to": 1})
        for _ in range(10)
    ]
    assert {each.status_code for each in asked} == {202}
    refused = await client.post("/event-replay", json={"topic": topic_of_its_own()})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_replays")
    path = f"/event-replay/{asked[-1].json()['replayId']}"
    cancelled = await client.post(f"{path}/cancel")
    assert cancelled.status_code == 200
    assert (cancelled.json()["state"], (await client.get(path)).json()["state"]) == (
        "cancelled",
        "cancelled",
    )
    page = (await client.get("/event-replay", params={"page": 2, "pageSize": 4})).json()
    assert (len(page["replays"]), page["totalCount"], page["hasNextPage"]) == (4, 10, True)
    for each in (await client.get("/event-replay")).json()["replays"][1:]:
        await client.post(f"/event-replay/{each['replayId']}/cancel")


async def test_who_may_and_what_may_be_asked_for(api: Api) -> None:
    admin = await api.client(Role.ADMIN)
    for role in (Role.READER, Role.EDITOR, Role.AUDITOR):
        other = await api.client(role)
        for answer in (
            await other.post("/event-replay", json={"topic": topic_of_its_own()}),
            await other.get("/event-replay"),
            await other.get(f"/event-replay/{unknown_id()}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    unknown = await admin.get(f"/event-replay/{unknown_id()}")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "replay_not_found")
    for body, pointer in (
        ({}, "/topic"),
        ({"topic": "nbledger.control"}, "/topic"),
        ({"topic": "somebody.elses"}, "/topic"),
        ({"topic": "nbledger.replay."}, "/topic"),
        ({"topic": "nbledger.events"}, "/confirmLive"),
        ({"topic": topic_of_its_own(), "from": 0}, "/from"),
        ({"topic": topic_of_its_own(), "from": 7, "to": 6}, "/to"),
        ({"topic": topic_of_its_own(), "upTo": 6}, "/upTo"),
    ):
        refused = await admin.post("/event-replay", json=body)
        assert refused.status_code == 422, body
        assert [each["pointer"] for each in refused.json()["errors"]] == [pointer]
    confirmed = await admin.post(
        "/event-replay", json={"topic": "nbledger.events", "confirmLive": True, "to": 1}
    )
    assert confirmed.status_code == 202
    await admin.post(f"/event-replay/{confirmed.json()['replayId']}/cancel")
