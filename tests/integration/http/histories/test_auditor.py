"""The role auditor: reads all histories with nothing else given, and changes nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.api import Api, new_notebook
from support.shared_api import api, api_server

from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

OF_TENANT = ("/audit/",)


def _examples(api: Api) -> dict[str, str]:
    """What stands for the variables of paths."""
    return {"tenantId": str(api.tenant_id), "projectId": str(api.project_id)}


def _operations(api: Api) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of all that takes a token."""
    return [
        (method.upper(), path, operation)
        for path, methods in api.document["paths"].items()
        for method, operation in methods.items()
        if operation["security"]
    ]


def _filled(api: Api, path: str, ids: dict[str, str]) -> str:
    for name, value in {**_examples(api), **ids}.items():
        path = path.replace(f"{{{name}}}", value)
    for name, value in (("path", "data.csv"), ("index", "000"), ("level", "0")):
        path = path.replace(f"{{{name}}}", value)
    return path


async def _made(api: Api) -> dict[str, str]:
    """Ids of one of each thing that an auditor may look at."""
    admin = await api.client()
    notebook_id = (await new_notebook(admin, "a"))["notebookId"]
    run = await admin.post(f"/notebook/{notebook_id}/execute")
    dataset = await admin.post("/dataset/csv", files={"file": ("d.csv", b"a,b\n1,2\n", "text/csv")})
    assert dataset.status_code == 201, dataset.text
    action = await admin.post(
        "/execution-actions", json={"action": "cancel", "ids": [run.json()["executionId"]]}
    )
    assert action.status_code == 202, action.text
    webhook = await admin.post("/webhook", json={"url": "https://receiver.example.org/"})
    assert webhook.status_code == 201, webhook.text
    return {
        "webhookId": webhook.json()["webhookId"],
        "notebookId": notebook_id,
        "executionId": run.json()["executionId"],
        "datasetId": dataset.json()["datasetId"],
        "actionId": action.json()["actionId"],
    }


async def _head(api: Api) -> int:
    """The number of the tenant's events, but for those of reading."""
    async with api.pool.acquire() as connection:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM event WHERE tenant_id = $1 AND type <> 'history.read.v1'",
            api.tenant_id,
        )
    return found


@pytest.mark.guarantee("G48")
async def test_over_all_operations_an_auditor_reads_and_changes_nothing(api: Api) -> None:
    ids = await _made(api)
    auditor = await api.client(Role.AUDITOR, base="")
    before, secrets = await _head(api), await _secrets(api)
    secrets.append(auditor.headers["authorization"].removeprefix("Bearer ").encode())
    operations = _operations(api)
    assert len(operations) > 60
    audited = 0
    for method, template, operation in operations:
        address = _filled(api, template, ids)
        may = "auditor" in operation["description"].rpartition("Roles: ")[2]
        if method == "GET" and "/events" in template and "{executionId}" in template:
            continue  # goes on for as long as the run does
        answer = await _ask(auditor, method, address)
        assert (answer.status_code != 403) is may, (method, template, answer.text)
        if method not in ("GET", "HEAD"):
            # What an auditor may send at all makes a link or the like, and leaves no event.
            assert not may or answer.status_code < 500
        audited += template.endswith("/history")
        # Tokens and the key of links are told nowhere.
        assert not any(each in answer.content for each in secrets), template
    assert audited >= 6
    assert await _head(api) == before


async def _secrets(api: Api) -> list[bytes]:
    """What nobody is told, as bytes and in hexadecimal."""
    async with api.pool.acquire() as connection:
        rows = await connection.fetch("SELECT key FROM secret_key UNION SELECT hash FROM api_token")
    return [form for row in rows for form in (bytes(row[0]), row[0].hex().encode())]


async def _ask(client: httpx.AsyncClient, method: str, address: str) -> httpx.Response:
    body: dict[str, Any] | None = None if method in ("GET", "HEAD", "DELETE") else {}
    return await client.request(method, address, json=body)


@pytest.mark.guarantee("G48")
async def test_an_auditor_reads_every_history_with_no_other_role(api: Api) -> None:
    ids = await _made(api)
    auditor = await api.client(Role.AUDITOR, base="")
    everything = [
        (method, template)
        for method, template, _ in _operations(api)
        if method == "GET"
        and template.endswith(("/history", "/history-reads", "}/events"))
        and "{libraryId}" not in template
        and "{executionId}/events" not in template
    ]
    everything += [("GET", f"/audit/{each}/{{tenantId}}") for each in ("events", "history-reads")]
    assert len(everything) >= 9
    for method, template in everything:
        answer = await auditor.request(method, _filled(api, template, ids))
        assert answer.status_code == 200, (template, answer.text)


async def test_nobody_else_reads_history(api: Api) -> None:
    ids = await _made(api)
    for role in (Role.READER, Role.EDITOR):
        client = await api.client(role, base="")
        for method, template, operation in _operations(api):
            if "Roles: admin, auditor." in operation["description"]:
                answer = await client.request(method, _filled(api, template, ids))
                assert answer.status_code == 403, (role, template)
