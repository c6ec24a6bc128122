"""The server as a process part: start, readiness, draining, and a database that goes away."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from support.api import Api, new_notebook, running_api, settings_for
from support.databases import create_database, drop_database
from support.shared_api import api, api_server

from nbledger_http.edge import server
from nbledger_http.endpoints.health import PING_SECONDS
from nbledger_infrastructure.postgres.database import DatabaseUnavailableError

__all__ = ["api", "api_server"]


async def test_health(api: Api) -> None:
    client = api.anonymous()
    assert (await client.get("/health/live")).json()["status"] == "ok"
    assert (await client.get("/health/ready")).json() == {"status": "ok", "missing": []}
    assert (await client.head("/health/ready")).status_code == 200


async def test_whoever_opens_the_address_finds_the_way_on(api: Api) -> None:
    client = api.anonymous()
    answer = await client.get("/")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["name"], told["version"]) == ("nbledger", api.document["info"]["version"])
    for address in (*told["links"].values(), *(each["url"] for each in answer.links.values())):
        assert (await client.get(address)).status_code == 200, address
    assert answer.links["service-desc"]["url"] == "/schema/openapi.json"
    assert told["notebooks"] in api.document["paths"]
    refused = await client.post("/")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


async def test_a_taken_port_is_refused(database_dsn: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = settings_for(database_dsn, tmp_path / "a", port=taken.getsockname()[1])
        with pytest.raises(server.AddressInUseError):
            await server.serve(settings, stop=asyncio.Event(), on_ready=lambda _: None)


async def test_without_a_database_it_does_not_start(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dsn = f"postgresql://x@127.0.0.1:{nobody.getsockname()[1]}/x"
        with pytest.raises(DatabaseUnavailableError):
            await server.serve(
                settings_for(dsn, tmp_path / "a"), stop=asyncio.Event(), on_ready=lambda _: None
            )


async def test_a_request_in_hand_is_answered_before_the_end(
    database_dsn: str, tmp_path: Path
) -> None:
    settings = settings_for(database_dsn, tmp_path / "a", drain_seconds=10.0)
    stop = asyncio.Event()
    async with running_api(settings, stop=stop) as api:
        client = await api.client()
        await client.get("/notebooks")
        headers = {"Nbledger-Position": "999", "Prefer": "wait=20"}
        waiting = asyncio.create_task(client.get("/notebooks", headers=headers))
        await api.until_in_hand(1)
        stop.set()
        assert (await waiting).status_code == 200
        async with asyncio.timeout(10):
            await _until_refused(api)


async def _until_refused(api: Api) -> None:
    """The server closes its port by a thread of its own, soon after it is told to."""
    while True:
        try:
            await api.anonymous().get("/health/live")
        except httpx.TransportError:
            return


async def test_a_lost_database_is_503_and_comes_back(tmp_path: Path) -> None:
    dsn = create_database()
    try:
        async with running_api(settings_for(dsn, tmp_path / "a")) as api:
            client = await api.client()
            notebook = await new_notebook(client, "x")
            path = f"/notebook/{notebook['notebookId']}"
            await api.pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'nbledger-api'"
            )
            # Cut connections cost some requests, none of them more than a 503.
            for _ in range(20):
                answer = await client.get(path)
                assert answer.status_code in (200, 503)
                written = await client.put(path, json={"notebookName": "y"})
                assert written.status_code in (200, 503)
                if answer.status_code == written.status_code == 200:
                    break
            assert (await client.get(path)).status_code == 200
            await _forbid_connections(dsn)
            for method, address in (("GET", path), ("PUT", path), ("POST", "/notebook")):
                answer = await client.request(method, address, json={"notebookName": "z"})
                assert answer.status_code == 503, (method, address)
                assert answer.headers["retry-after"]
                assert answer.json()["code"] == "unavailable"
            ready = await api.anonymous().get("/health/ready", timeout=PING_SECONDS + 5)
            assert ready.status_code == 503
            assert ready.json()["missing"] == ["database"]
            await _allow_connections(dsn)
            assert (await client.get(path)).status_code == 200
    finally:
        drop_database(dsn)


async def _forbid_connections(dsn: str) -> None:
    await _on_server(dsn, "ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await _on_server(
        dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    )


async def _allow_connections(dsn: str) -> None:
    await _on_server(dsn, "ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def _on_server(dsn: str, statement: str) -> None:
    import asyncpg

    parts = urlsplit(dsn)
    connection = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")))
    try:
        await connection.execute(statement.format(name=parts.path.lstrip("/")))
    finally:
        await connection.close()


async def test_the_description_is_valid_and_complete(api: Api) -> None:
    document = api.document
    assert document["openapi"].startswith("3.1")
    components = {"components": document["components"]}
    operations = 0
    for methods in document["paths"].values():
        for operation in methods.values():
            operations += 1
            assert operation["summary"]
            if operation["operationId"] not in (
                "getSchemaPage",
                "getSchema",
                "getAsyncApiPage",
                "getAsyncApi",
            ):
                for answer in operation["responses"].values():
                    told = answer.get("content", {}).get("application/json", {"example": None})
                    assert "example" in told, operation["operationId"]
            contents = [answer.get("content", {}) for answer in operation["responses"].values()]
            contents.append(operation.get("requestBody", {}).get("content", {}))
            for content in contents:
                for told in content.values():
                    if "schema" not in told:
                        continue
                    validator = Draft202012Validator({**told["schema"], **components})
                    Draft202012Validator.check_schema({**told["schema"], **components})
                    if "example" in told:
                        errors = [e.message for e in validator.iter_errors(told["example"])]
                        assert not errors, (operation["operationId"], errors)
    assert operations >= 19
    codes = document["components"]["schemas"]["Code"]["enum"]
    assert "notebook_executing" in codes
    page = await api.anonymous().get("/schema", headers={"Accept": "text/html"})
    assert "<h1>" in page.text
    assert "http://" not in page.text.replace("http://json-schema", "")
    told = await api.anonymous().get("/schema")
    assert told.json() == document
    described = document["paths"]["/schema"]["get"]["responses"]["200"]["content"]
    assert set(described) == {told.headers["content-type"], "text/html"}
    assert told.headers["vary"] == "Accept"


async def test_what_a_post_makes_is_linked_with_what_its_id_opens(api: Api) -> None:
    paths = api.document["paths"]
    by_id = {
        operation["operationId"]: (path, operation)
        for path, methods in paths.items()
        for operation in methods.values()
    }

    def links(operation: str, status: str) -> set[str]:
        path, described = by_id[operation]
        found: dict[str, Any] = described["responses"][status]["links"]
        for link in found.values():
            target = by_id[link["operationId"]][0]
            assert set(link["parameters"]) == set(re.findall(r"\{(\w+)\}", target))
            for name, where in link["parameters"].items():
                if where.startswith("$request.path."):
                    assert where == f"$request.path.{name}"
                    assert f"{{{name}}}" in path
                else:
                    assert re.fullmatch(rf"\$response\.body#/([\w/]+/)?{name}", where)
        return {link["operationId"] for link in found.values()}

    of_notebooks = {
        "getNotebook", "updateNotebook", "deleteNotebook", "downloadNotebook", "executeNotebook",
        "listExecutions", "getNotebookHistory",
    }  # fmt: skip
    of_executions = {
        "getExecution", "getExecutionResults", "followExecution", "cancelExecution",
        "getExecutionHistory",
    }  # fmt: skip
    assert links("createNotebook", "201") >= of_notebooks
    assert links("uploadNotebook", "201") == links("createNotebook", "201")
    assert links("executeNotebook", "202") >= of_executions
    assert links("cancelExecution", "202") >= of_executions
    assert links("createDataset", "201") >= {"getDataset", "downloadDataset", "deleteDataset"}
    for status in ("200", "201"):
        assert links("uploadLibrary", status) >= {"getLibrary", "downloadLibrary", "deleteLibrary"}
    for status in ("200", "201"):
        assert links("addFiles", status) == {"downloadInputFile", "putFile", "removeFile"}
    posts = {each["post"]["operationId"] for each in paths.values() if "post" in each}
    linked = {
        operation["operationId"]
        for _, operation in by_id.values()
        if any("links" in answer for answer in operation["responses"].values())
    }
    assert linked >= posts


async def test_answers_are_as_described(api: Api) -> None:
    client = await api.client()
    made = await new_notebook(client, "x", template="process_mining_starter")
    notebook = f"/notebook/{made['notebookId']}"
    execution = (await client.post(f"{notebook}/execute", json={"parameters": {"a": 1}})).json()
    path = f"{notebook}/execution/{execution['executionId']}"
    told = {
        ("post", "/notebook"): made,
        ("get", "/notebook/{notebookId}"): (await client.get(notebook)).json(),
        ("get", "/notebooks"): (await client.get("/notebooks")).json(),
        ("put", "/notebook/{notebookId}"): (await client.put(notebook, json={})).json(),
        ("post", "/notebook/{notebookId}/execute"): execution,
        ("get", "/notebook/{notebookId}/execution/{executionId}"): (await client.get(path)).json(),
        ("get", "/notebook/{notebookId}/history"): (await client.get(f"{notebook}/history")).json(),
        ("get", "/notebook/{notebookId}/execution/{executionId}/results"): (
            await client.get(f"{path}/results")
        ).json(),
    }
    for (method, address), body in told.items():
        operation = api.document["paths"]["/api/{tenantId}/{projectId}" + address][method]
        # Of several the last: what was asked for, and not a dry run.
        *_, answer = [a for s, a in operation["responses"].items() if s in ("200", "201", "202")]
        schema = answer["content"]["application/json"]["schema"]
        validator = Draft202012Validator({**schema, "components": api.document["components"]})
        errors = [e.message for e in validator.iter_errors(body)]
        assert not errors, (method, address, errors)
