"""Webhooks of a project over HTTP."""

from __future__ import annotations

import asyncio
import base64
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from support.api import Api, unknown_id
from support.read_models import assert_holds, catch_up
from support.receivers import receiver
from support.shared_api import api, api_server
from support.webhooks import hooks

from nbledger_application.caller import Caller
from nbledger_infrastructure.postgres.database import acquire
from nbledger_infrastructure.postgres.event_store import NewEvent, Stream
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.read_models import webhooks

__all__ = ["api", "api_server"]

ASKED = {
    "url": "https://hooks.example.com/nbledger",
    "eventTypes": ["execution.completed", "execution", "notebook.created.v1"],
    "tags": ["nightly"],
    "description": "Tells the team",
}


async def test_the_life_of_a_webhook(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = await client.post("/webhook", json=ASKED)
    assert made.status_code == 201, made.text
    webhook = made.json()
    secret = webhook.pop("secret")
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    assert secret.startswith("whsec_")
    assert len(key) == 32
    assert made.headers["cache-control"] == "no-store"
    webhook_id = webhook["webhookId"]
    path = f"/webhook/{webhook_id}"
    assert made.headers["location"] == api.base + path
    told = {name: webhook[name] for name in list(webhook)[1:-2]}
    assert told == {
        "projectId": str(api.project_id),
        **ASKED,
        "ordered": False,
        "enabled": True,
    }
    assert webhook["createdBy"] == "tester"

    viewer = await api.client(Role.READER)
    read = await viewer.get(path)
    assert read.json() == webhook
    unchanged = await viewer.get(path, headers={"If-None-Match": read.headers["etag"]})
    assert unchanged.status_code == 304

    changed = await client.put(
        path,
        json={"url": "https://hooks.example.com/b", "ordered": True, "enabled": False},
        headers={"If-Match": read.headers["etag"]},
    )
    assert changed.status_code == 200, changed.text
    assert changed.json()["disabledReason"] == "requested"
    assert {name: changed.json()[name] for name in ("url", "eventTypes", "tags", "ordered")} == {
        "url": "https://hooks.example.com/b",
        "eventTypes": [],
        "tags": [],
        "ordered": True,
    }
    stale = await client.put(path, json=ASKED, headers={"If-Match": read.headers["etag"]})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    again = await client.put(path, json=ASKED)
    assert again.json()["enabled"] is True
    assert "disabledReason" not in again.json()

    rotated = await client.post(f"{path}/secret")
    assert rotated.status_code == 200, rotated.text
    assert rotated.json()["secret"] != secret
    assert rotated.json()["previousSecretUntil"].endswith("Z")

    await catch_up(api.pool, webhooks.NAME)
    listed = await viewer.get("/webhook")
    assert [each["webhookId"] for each in listed.json()["webhooks"]] == [webhook_id]
    assert listed.json()["webhooks"][0]["createdBy"] == "tester"
    events = await api.store.read_stream(UUID(webhook_id))
    await assert_holds(api.pool, webhooks.NAME, events)

    gone = await client.delete(path)
    assert gone.status_code == 204
    assert (await viewer.get(path)).json()["code"] == "webhook_not_found"
    assert [event.type for event in await api.store.read_stream(UUID(webhook_id))] == [
        "webhook.created.v1",
        "webhook.changed.v1",
        "webhook.disabled.v1",
        "webhook.changed.v1",
        "webhook.enabled.v1",
        "webhook.secret-rotated.v1",
        "webhook.deleted.v1",
    ]


@pytest.mark.guarantee("G54")
async def test_the_secret_is_in_no_event_and_goes_with_its_webhook(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = (await client.post("/webhook", json=ASKED)).json()
    path = f"/webhook/{made['webhookId']}"
    second = (await client.post(f"{path}/secret")).json()["secret"]
    events = await api.store.read_stream(UUID(made["webhookId"]))
    everything = b"".join(event.data or b"" for event in events)
    for secret in (made["secret"], second):
        assert secret.removeprefix("whsec_").encode() not in everything
        assert secret not in (await client.get(path)).text
        assert secret not in (await client.get("/webhook")).text
    kept = "SELECT count(*) FROM webhook_secret WHERE webhook_id = $1"
    async with acquire(api.pool) as connection:
        assert await connection.fetchval(kept, UUID(made["webhookId"])) == 2
    await client.delete(path)
    async with acquire(api.pool) as connection:
        assert await connection.fetchval(kept, UUID(made["webhookId"])) == 0


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"url": "http://hooks.example.com"}, "/url"),
        ({"url": "https://user:word@hooks.example.com"}, "/url"),
        ({"url": "https://hooks.example.com/#part"}, "/url"),
        ({"url": "https://hooks.example.com:99999"}, "/url"),
        ({"url": "https://"}, "/url"),
        ({"url": "https://höoks.example.com"}, "/url"),
        ({"url": "file:///etc/passwd"}, "/url"),
        ({"url": "https://hooks.example.com:0/"}, "/url"),
        ({"url": "https://hooks.example.com\\.evil.example/"}, "/url"),
        ({"url": "https://%68ooks.example.com/"}, "/url"),
        ({"url": f"https://{'a' * 64}.example.com/"}, "/url"),
        ({"url": f"https://hooks.example.com/{'a' * 2000}"}, "/url"),
        ({"url": "https://10.1.2.3/"}, "/url"),
        ({"url": "https://[::ffff:169.254.169.254]/"}, "/url"),
        ({"url": "https://[fe80::1%25eth0]/"}, "/url"),
        ({"url": "https://2130706433/"}, "/url"),
        ({"url": "https://0177.1/"}, "/url"),
        ({"url": "https://0x7f.0.0.1/"}, "/url"),
        ({"url": "https://1.2.3.4.5/"}, "/url"),
        ({"url": "https://localhost./"}, "/url"),
        ({"url": "https://hooks.localhost/"}, "/url"),
        ({**ASKED, "eventTypes": ["execution.complete"]}, "/eventTypes/0"),
        ({**ASKED, "eventTypes": ["execution", "%"]}, "/eventTypes/1"),
        ({**ASKED, "eventType": ["execution"]}, "/eventType"),
        ({}, "/url"),
    ],
)
async def test_what_is_no_webhook_is_refused(api: Api, body: dict[str, Any], pointer: str) -> None:
    client = await api.client(Role.EDITOR)
    refused = await client.post("/webhook", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert [fault["pointer"] for fault in refused.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    "url",
    [
        "HTTPS://Hooks.Example.com:8443/a?b=c",
        "https://xn--hks-0qa.example./",
        "https://93.184.215.14/",
        "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:443",
    ],
)
async def test_urls_of_public_places_are_taken(api: Api, url: str) -> None:
    client = await api.client(Role.EDITOR)
    made = await client.post("/webhook", json={"url": url})
    assert made.status_code == 201, made.text
    assert made.json()["url"] == url


async def test_who_may_do_what(api: Api) -> None:
    editor, viewer = await api.client(Role.EDITOR), await api.client(Role.READER)
    path = f"/webhook/{(await editor.post('/webhook', json=ASKED)).json()['webhookId']}"
    for refused in (
        await viewer.post("/webhook", json=ASKED),
        await viewer.put(path, json=ASKED),
        await viewer.post(f"{path}/secret"),
        await viewer.delete(path),
    ):
        assert refused.status_code == 403, refused.request
    other = api.base.replace(str(api.project_id), unknown_id())
    foreign = await api.client(Role.ADMIN, base=other)
    for unknown in (
        await foreign.get(path),
        await foreign.put(path, json=ASKED),
        await foreign.post(f"{path}/secret"),
        await foreign.delete(path),
        await editor.get(f"/webhook/{unknown_id()}"),
        await editor.get("/webhook/nonsense"),
    ):
        assert (unknown.status_code, unknown.json()["code"]) == (404, "webhook_not_found")


async def test_deliveries_are_listed_with_what_was_sent_and_answered(api: Api) -> None:
    editor, reader = await api.client(Role.EDITOR), await api.client(Role.READER)
    caller = Caller("ann", frozenset({Role.EDITOR}), api.tenant_id, api.project_id, "request-1")
    async with receiver() as there, hooks(api.pool, api.store, caller, api.url) as scene:
        webhook_id, secret = await scene.hook(there.url)
        path = f"/webhook/{webhook_id}"
        await scene.work()
        there.answers.extend([410, 200])
        events = [await scene.event() for _ in range(3)]
        await scene.work()
        listed = (await reader.get(f"{path}/delivery")).json()
        assert [each["eventId"] for each in listed["deliveries"]] == [
            str(each) for each in reversed(events)
        ]
        assert [each["state"] for each in listed["deliveries"]] == ["pending", "pending", "dead"]
        assert listed["next"] is None
        first = (await reader.get(f"{path}/delivery", params={"limit": 1})).json()
        rest = await reader.get(f"{path}/delivery", params={"before": first["next"]})
        assert first["deliveries"] + rest.json()["deliveries"] == listed["deliveries"]
        dead = (await reader.get(f"{path}/delivery", params={"state": "dead"})).json()
        assert dead["deliveries"] == listed["deliveries"][2:]

        told = (await editor.get(f"{path}/delivery/{events[0]}")).json()
        (attempt,) = told["log"]
        assert (attempt["status"], attempt["error"], attempt["answerBody"]) == (410, "gone", "told")
        assert ["x-told", "yes"] in attempt["answerHeaders"]
        assert attempt["requestHeaders"]["webhook-id"] == str(events[0])
        assert msgspec.json.encode(told["requestBody"], order="sorted") == msgspec.json.encode(
            there.got[0].event, order="sorted"
        )
        assert secret not in str(told)

        change = {"url": "https://hooks.example.com/", "eventTypes": ["notebook"]}
        assert (await editor.get(path)).json()["disabledReason"] == "gone"
        enabled = await editor.put(path, json=change)
        assert enabled.json()["enabled"] is True
        again = await editor.post(f"{path}/redelivery", json={"eventIds": [str(events[0])]})
        assert again.status_code == 202, again.text
        by_range = await editor.post(f"{path}/redelivery", json={"after": 1, "until": 2})
        assert by_range.status_code == 202, by_range.text
        recorded = [event.type for event in await api.store.read_stream(webhook_id)]
        assert recorded[-2:] == ["webhook.redelivery-requested.v1"] * 2

        assert (await reader.get(f"{path}/delivery/{events[0]}")).status_code == 403
        assert (await reader.post(f"{path}/redelivery", json={})).status_code == 403
        unknown = await editor.get(f"{path}/delivery/{unknown_id()}")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "event_not_found")
        for body, pointer in (
            ({}, "/after"),
            ({"after": 1}, "/after"),
            ({"after": 2, "until": 2}, "/until"),
            ({"eventIds": []}, "/eventIds"),
            ({"eventIds": ["x"]}, "/eventIds/0"),
            ({"eventIds": [unknown_id()], "after": 1, "until": 2}, "/eventIds"),
        ):
            refused = await editor.post(f"{path}/redelivery", json=body)
            assert refused.status_code == 422, body
            assert [each["pointer"] for each in refused.json()["errors"]] == [pointer]


async def test_a_project_has_so_many_webhooks_at_most(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = (await client.post("/webhook", json=ASKED)).json()
    (event,) = await api.store.read_stream(UUID(made["webhookId"]))

    async def one_more() -> None:
        stream = Stream(uuid4(), uuid4(), api.tenant_id, api.project_id)
        copy = NewEvent(uuid4(), event.type, event.data or b"", event.occurred_at)
        await api.store.append(stream, [copy], expected_version=0, metadata=event.metadata)

    await asyncio.gather(*(one_more() for _ in range(99)))
    refused = await client.post("/webhook", json=ASKED)
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_webhooks")
    await client.delete(f"/webhook/{made['webhookId']}")
    assert (await client.post("/webhook", json=ASKED)).status_code == 201


async def test_the_history_of_a_webhook_tells_who_did_what(api: Api) -> None:
    editor, auditor = await api.client(Role.EDITOR), await api.client(Role.AUDITOR)
    made = (await editor.post("/webhook", json=ASKED)).json()
    path = f"/webhook/{made['webhookId']}"
    await editor.put(path, json={**ASKED, "url": "https://hooks.example.com/b", "enabled": False})
    await editor.post(f"{path}/secret")
    assert (await editor.get(f"{path}/history")).status_code == 403
    told = await auditor.get(f"{path}/history")
    assert told.status_code == 200, told.text
    events = told.json()["events"]
    assert [each["type"] for each in events] == [
        "webhook.created.v1",
        "webhook.changed.v1",
        "webhook.disabled.v1",
        "webhook.secret-rotated.v1",
    ]
    assert {each["actor"] for each in events} == {"tester"}
    url = {"field": "/url", "kind": "changed", "before": ASKED["url"]}
    assert {**url, "after": "https://hooks.example.com/b"} in events[1]["changes"]
    off = {"field": "/enabled", "kind": "changed", "before": True, "after": False}
    assert off in events[2]["changes"]
    assert made["secret"] not in told.text
    reads = (await auditor.get("/history-reads")).json()
    mine = [each for each in reads["reads"] if each.get("subjectId") == made["webhookId"]]
    assert [each["history"] for each in mine] == ["project"]

    unknown = await auditor.get(f"/webhook/{unknown_id()}/history")
    assert unknown.json()["code"] == "webhook_not_found"
    await editor.delete(path)
    last = (await auditor.get(f"{path}/history")).json()["events"][-1]
    assert last["type"] == "webhook.deleted.v1"
