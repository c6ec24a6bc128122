"""Tokens, tenants, projects and roles."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from support.api import Api, new_notebook, running_api, settings_for, unknown_id
from support.shared_api import api, api_server

from nbledger_domain.vocabulary.addresses import ALL_PROJECTS
from nbledger_http.replies.problems import Problem
from nbledger_http.security import authentication
from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]


async def test_without_a_valid_token_nothing_is_told(api: Api) -> None:
    expired, _ = await tokens.create(
        api.pool,
        name="old",
        tenant_id=api.tenant_id,
        project_ids=None,
        roles=[Role.ADMIN],
        expires_at=datetime.now(UTC) - timedelta(seconds=1),
    )
    for header in (
        None,
        "Bearer",
        "Basic abc",
        "Bearer nbl_wrong",
        "Bearer " + "x" * 9999,
        f"Bearer {expired}",
    ):
        client = api.anonymous(base=api.base)
        headers = {} if header is None else {"Authorization": header}
        answer = await client.get("/notebooks", headers=headers)
        assert answer.status_code == 401, header
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["code"] == "unauthenticated"


async def test_a_revoked_token_ends_within_moments(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, token = await tokens.create(
        api.pool, name="t", tenant_id=api.tenant_id, project_ids=None, roles=[Role.READER]
    )
    clock = 0.0
    who = authentication.Authenticator(api.pool, rate_limit=0, clock=lambda: clock)
    await who.authenticate(f"Bearer {secret}")
    await tokens.revoke(api.pool, token.token_id)
    clock = authentication.REMEMBER_SECONDS + 0.1
    with pytest.raises(Problem):
        await who.authenticate(f"Bearer {secret}")


def told(answer: httpx.Response) -> dict[str, object]:
    body: dict[str, object] = answer.json()
    del body["requestId"]
    return body


async def test_the_nil_uuid_is_no_project(api: Api) -> None:
    """It stands for all projects inside, and must not open them to a token of some."""
    with pytest.raises(ValueError, match="nil UUID"):
        await api.client(project_ids=[uuid4(), ALL_PROJECTS])
    await new_notebook(await api.client(), "secret")
    nil = f"/api/{api.tenant_id}/{ALL_PROJECTS}"
    every = await api.client(base=nil)
    some = await api.client(project_ids=[api.project_id], base=nil)
    # A token that was made before that was refused.
    old = await api.client(project_ids=[uuid4()], base=nil)
    token = old.headers["Authorization"].removeprefix("Bearer ")
    changed = await api.pool.execute(
        "UPDATE api_token SET project_ids = ARRAY[$1::uuid] WHERE hash = $2",
        ALL_PROJECTS,
        tokens.hash_token(token),
    )
    assert changed == "UPDATE 1"
    for client in (every, some, old):
        for path in ("/events", "/history-reads", "/notebooks"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "project_not_found"), path


async def test_foreign_and_unknown_are_told_alike(api: Api) -> None:
    owner = await api.client()
    notebook = await new_notebook(owner, "x")
    notebook_id = notebook["notebookId"]
    execution = (await owner.post(f"/notebook/{notebook_id}/execute")).json()["executionId"]
    foreign_tenant = await api.client(tenant_id=uuid4())
    other_project = await api.client(project_ids=[uuid4()])
    neighbour = await api.client(base=f"/api/{api.tenant_id}/{uuid4()}")
    suffixes = {
        "": ("GET", "PUT", "DELETE"),
        "/execute": ("POST",),
        "/executions": ("GET",),
        "/history": ("GET",),
        "/download": ("GET",),
        "/execution/{}": ("GET",),
        "/execution/{}/results": ("GET",),
        "/execution/{}/cancel": ("POST",),
        "/execution/{}/rerun": ("POST",),
        "/execution/{}/repair": ("POST",),
        "/execution/{}/chain": ("GET",),
        "/execution/{}/changes": ("GET",),
        "/execution/{}/history": ("GET",),
    }
    for suffix, methods in suffixes.items():
        for method in methods:
            unknown = await owner.request(
                method, f"/notebook/{unknown_id()}" + suffix.format(unknown_id()), json={}
            )
            assert unknown.status_code == 404, (method, suffix)
            for client, path in (
                (foreign_tenant, notebook_id),
                (other_project, notebook_id),
                (neighbour, notebook_id),
                (owner, "not-a-guid"),
                (owner, notebook_id.replace("-", "")),
                (owner, "%00"),
            ):
                address = f"/notebook/{path}" + suffix.format(execution)
                answer = await client.request(method, address, json={})
                assert answer.status_code == 404, (method, suffix, path)
                assert told(answer) == told(unknown), (method, suffix, path)
    for client in (foreign_tenant, other_project):
        for method, path in (("GET", "/notebooks"), ("POST", "/notebook")):
            answer = await client.request(method, path, json={"notebookName": "x"})
            assert answer.status_code == 404
            assert answer.json()["code"] == "project_not_found"
    assert (await neighbour.get("/notebooks")).status_code == 200


async def test_roles(api: Api) -> None:
    admin = await api.client(Role.ADMIN)
    notebook = f"/notebook/{(await new_notebook(admin, 'x'))['notebookId']}"
    requests = {
        "read": [("GET", notebook), ("GET", "/notebooks"), ("GET", f"{notebook}/executions")],
        "write": [
            ("POST", "/notebook"),
            ("PUT", notebook),
            ("POST", f"{notebook}/execute"),
            ("POST", "/notebook/upload"),
            ("POST", f"{notebook}/execution/{unknown_id()}/cancel"),
            ("DELETE", f"{notebook}?force=maybe"),
        ],
        "audit": [("GET", f"{notebook}/history")],
    }
    allowed = {
        Role.READER: {"read"},
        Role.EDITOR: {"read", "write"},
        Role.AUDITOR: {"read", "audit"},
        Role.ADMIN: {"read", "write", "audit"},
    }
    for role, rights in allowed.items():
        client = await api.client(role)
        for right, list_ in requests.items():
            for method, path in list_:
                answer = await client.request(method, path, json={"notebookName": "y"})
                refused = answer.status_code == 403
                assert refused is (right not in rights), (role, method, path)
                if refused:
                    assert answer.json()["code"] == "forbidden"


async def test_rate_limit_and_body_limits(database_dsn: str, tmp_path: Path) -> None:
    settings = settings_for(
        database_dsn, tmp_path / "a", rate_limit=3, max_body_mb=1, max_notebook_mb=1
    )
    async with running_api(settings) as api:
        client, other = await api.client(), await api.client()
        answers = await asyncio.gather(*(client.get("/notebooks") for _ in range(12)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert refused[0].headers["retry-after"] == "1"
        assert (await other.get("/notebooks")).status_code == 200
        large = b'{"notebookName": "' + b"x" * (2 * 1024 * 1024) + b'"}'
        headers = {"Content-Type": "application/json"}
        answer = await other.post("/notebook", content=large, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["code"] == "body_too_large"
        for size in (1024 * 1024 + 1, 3 * 1024 * 1024):
            third = await api.client()
            answer = await third.post("/notebook/upload", files={"file": ("a", b" " * size)})
            assert answer.status_code == 413, size
