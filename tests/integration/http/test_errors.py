"""Whatever is sent, the answer is one of the documented ones, and never a 500."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from support.api import Api, new_notebook, unknown_id
from support.shared_api import ServerThread, api, api_server

from nbledger_http.replies.problems import KINDS, Code
from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

JSON = {"Content-Type": "application/json"}

NOT_JSON: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (b"{", "cut off"),
    (b"\xff\xfe", "not UTF-8"),
    (b"[" * 200_000, "deep and unclosed"),
    (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "deep"),
    (b'{"notebookName": "\\ud800"}', "half a surrogate pair"),
    (b'{"notebookName": NaN}', "NaN"),
    (b'{"notebookName": 1e999}', "infinite"),
    (b'{"notebookName": "a\\u0000b"}', "NUL"),
    (b'{"notebookName": "a", "x\\u0000": 1}', "NUL in a name"),
    (b'{"notebookName": "a", "x": ' + b"[" * 150 + b"]" * 150 + b"}", "150 deep"),
    (b'{"notebookName": ' + b"9" * 5_000 + b"}", "a huge number"),
    (b"[]", "an array"),
    (b'"text"', "a text"),
    (b"null", "null"),
]


@pytest.mark.parametrize("body", [b for b, _ in NOT_JSON], ids=[name for _, name in NOT_JSON])
async def test_bodies_that_are_no_request(api: Api, body: bytes) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, 'x'))['notebookId']}"
    for method, address in (("POST", "/notebook"), ("PUT", path), ("POST", f"{path}/execute")):
        answer = await client.request(method, address, content=body, headers=JSON)
        if address.endswith("execute") and body == b"":
            assert answer.status_code == 202
        elif b"huge" in body or (b"999" in body and method == "POST" and "execute" in address):
            assert answer.status_code in (202, 422)
        elif b"x\\u0000" in body or b"a\\u0000b" in body or b"[[[" in body:
            assert answer.status_code == 422
        else:
            assert answer.status_code == 422, (method, address, answer.text)
        if answer.status_code == 422:
            problem = answer.json()
            assert answer.headers["content-type"] == "application/problem+json"
            assert problem["error"] == problem["detail"]
            assert problem["code"] == "validation_failed"
            assert problem["requestId"] == answer.headers["x-request-id"]
            assert problem["errors"]


async def test_no_member_is_passed_over_for_another_of_its_name(api: Api) -> None:
    client = await api.client()
    cells = b'[{"cellType": "code", "content": "1", "content": "2"}]'
    body = b'{"notebookName": "one", "cells": %b, "notebookName": "two"}' % cells
    notebook = await new_notebook(client, "1")
    path = f"/notebook/{notebook['notebookId']}"
    for method, address in (("POST", "/notebook"), ("PUT", path)):
        answer = await client.request(method, address, content=body, headers=JSON)
        assert answer.status_code == 422, address
        assert {(each["pointer"], each["reason"]) for each in answer.json()["errors"]} == {
            ("/notebookName", "is given more than once"),
            ("/cells/0/content", "is given more than once"),
        }
    assert (await client.get(path)).json()["notebookName"] == notebook["notebookName"]


async def test_every_fault_is_told_at_once(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    body = {
        "notebookName": " ",
        "notebookDescription": 5,
        "kernelType": "cobol",
        "template": "none such",
        "integration": {
            "enrichmentMode": "yes",
            "datasetBinding": 7,
            "autoExecution": 1,
            "scheduleExecution": "at noon",
        },
        "environment": {"packages": ["ok", 1, ""], "customLibraries": "x"},
        "initialCells": [
            {"cellType": "sql", "content": "x"},
            7,
            {"content": None},
            {"cellType": "code", "content": "", "cellId": "a b"},
            {"cellType": "code", "content": "", "cellId": "same"},
            {"cellType": "raw", "content": "", "cellId": "same", "tags": ["a,b"]},
        ],
    }
    answer = await client.post("/notebook", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert {error["pointer"] for error in problem["errors"]} == {
        "/notebookName",
        "/notebookDescription",
        "/kernelType",
        "/template",
        "/integration/enrichmentMode",
        "/integration/datasetBinding",
        "/integration/autoExecution",
        "/integration/scheduleExecution",
        "/environment/packages/1",
        "/environment/packages/2",
        "/environment/customLibraries",
        "/initialCells/0/cellType",
        "/initialCells/1",
        "/initialCells/2/cellType",
        "/initialCells/2/content",
        "/initialCells/3/cellId",
        "/initialCells/5/cellId",
        "/initialCells/5/tags",
    }
    (template,) = [e for e in problem["errors"] if e["pointer"] == "/template"]
    assert "process_mining_starter" in template["reason"]


async def test_a_member_by_another_name_is_told_with_what_was_meant(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    answer = await client.post("/notebook", json={"name": "x", "description": "y"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("/notebookName: is required; 'name' is not")
    assert {each["pointer"]: each["reason"] for each in answer.json()["errors"]} == {
        "/notebookName": "is required; 'name' is not a known member",
        "/name": "is an unknown member; did you mean notebookName?",
        "/description": "is an unknown member; did you mean notebookDescription?",
    }


async def test_media_types(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    body = b'{"notebookName": "a"}'
    for headers in (
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": ";;;"},
    ):
        answer = await client.post("/notebook", content=body, headers=headers)
        assert answer.status_code == 415, headers
        assert answer.json()["code"] == "unsupported_media_type"
    for kind in ("application/json;charset=UTF-8", "application/merge-patch+json"):
        answer = await client.post("/notebook", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 201
    answer = await client.post("/notebook/upload", content=body, headers=JSON)
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"--b",
        b"--b\r\n\r\n",
        b"--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n{}\r\n--b--\r\n',
        (
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n'
            b"Content-Type: text/plain; charset=none\r\n\r\n{}\r\n--b--\r\n"
        ),
        b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\xff\r\n--b--\r\n',
        (
            b'--b\r\nContent-Disposition: form-data; name="notebookName"\r\n\r\n\x00\r\n'
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            b"{}\r\n--b--\r\n"
        ),
        b"\x00" * 1000,
    ],
)
async def test_forms_that_cannot_be_read(api: Api, form: bytes) -> None:
    client = await api.client(Role.EDITOR)
    for boundary in ("; boundary=b", "", "; boundary="):
        headers = {"Content-Type": f"multipart/form-data{boundary}"}
        answer = await client.post("/notebook/upload", content=form, headers=headers)
        assert answer.status_code == 422, answer.text


@pytest.mark.parametrize(
    ("content_type", "form", "reason"),
    [
        (
            "b",
            b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n',
            "the head of a part is not",
        ),
        ("b", b"--b\r\nX: y\r\n\r\n", "missing Content-Disposition part header"),
        ("other", b"--b--\r\n", "it ends too early, or its boundary is not the one"),
        ("b", b"--b\r\n", "it ends too early, or its boundary is not the one"),
    ],
)
async def test_a_form_that_cannot_be_read_is_told_why(
    api: Api, content_type: str, form: bytes, reason: str
) -> None:
    client = await api.client(Role.EDITOR)
    headers = {"Content-Type": f"multipart/form-data; boundary={content_type}"}
    answer = await client.post("/notebook/upload", content=form, headers=headers)
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == ""
    assert fault["reason"].startswith(f"the form cannot be read: {reason}")


async def test_a_file_name_may_come_as_older_clients_write_it(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}/file"
    form = (
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''d%C3%A9j%C3%A0.csv"
        b"\r\n\r\n1\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await client.post(path, content=form, headers=headers)
    assert [file["path"] for file in answer.json()["files"]] == ["déjà.csv"]
    # A browser sends a part without name and content where no file was chosen.
    none = b'--b\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n'
    answer = await client.post(path, content=none + b"--b--\r\n", headers=headers)
    (fault,) = answer.json()["errors"]
    assert (fault["pointer"], "is required" in fault["reason"]) == ("/file", True)
    answer = await client.post(path, content=none + form.replace(b"d%C3", b"e"), headers=headers)
    assert answer.status_code == 201


async def test_a_method_is_refused_with_those_that_the_address_takes(api: Api) -> None:
    client = await api.client()
    described = (await client.get(f"{api.url}/schema/openapi.json")).json()
    ids = {"tenantId": str(api.tenant_id), "projectId": str(api.project_id), "path": "data/a.csv"}
    names = {*ids, "digest", "fileName"}
    for template, methods in described["paths"].items():
        path = re.sub(r"\{(\w+)\}", lambda name: ids.get(name[1], unknown_id()), template)
        if any(f"{{{name}}}" in template for name in names - set(ids)):
            continue  # links are tested with real ones
        allowed = sorted({*(method.upper() for method in methods), *("HEAD",) * ("get" in methods)})
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"} - set(allowed):
            answer = await client.request(method, f"{api.url}{path}")
            assert answer.status_code == 405, (method, template, answer.text)
            assert answer.headers["allow"] == ", ".join(allowed), (method, template)
            assert answer.json()["detail"] == f"This address supports {', '.join(allowed)}."


async def test_a_put_of_a_part_is_refused(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    before = (await client.get(path)).content
    part = {"Content-Range": "bytes 2-3/10"}
    for address in (path, f"{path}/file/a.csv", f"/dataset/{unknown_id()}/csv"):
        answer = await client.put(address, content=b"{}", headers=part)
        assert (answer.status_code, answer.json()["code"]) == (400, "partial_put"), address
        assert "Content-Range" in answer.json()["detail"]
    assert (await client.get(path)).content == before


async def test_unknown_addresses_and_methods(api: Api) -> None:
    client = await api.client(base="")
    for path in ("/api", "/nowhere", f"{api.base}", f"{api.base}/notebooks/x", "/%00", "/%ff"):
        answer = await client.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["code"] == "not_found"
    answer = await client.patch(f"{api.base}/notebook/{unknown_id()}")
    assert answer.status_code == 405
    allowed = set(answer.headers["allow"].split(", "))
    assert allowed == {"GET", "HEAD", "PUT", "DELETE"}
    assert answer.json()["detail"] == "This address supports DELETE, GET, HEAD, PUT."
    answer = await client.options(f"{api.base}/notebook/{unknown_id()}")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    answer = await client.options(f"/api/{unknown_id()}/{unknown_id()}/notebooks")
    assert answer.status_code == 404
    answer = await api.anonymous(base=api.base).options("/notebooks")
    assert answer.status_code == 401


async def test_raw_requests_that_a_client_library_would_not_send(
    api: Api, api_server: ServerThread
) -> None:
    port = int(api_server.url.rpartition(":")[2])

    def exchange(request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(4096)

    for target in (
        b"/\xff",
        b"/api/%ff/%00/notebook/%2e%2e",
        b"/schema?%ff=%ff&a",
        b"//",
        b"/?" + b"a" * 9999,
    ):
        request = b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await asyncio.to_thread(exchange, request)
        assert answer[9:10] != b"5", (target, answer)


async def test_request_ids(api: Api) -> None:
    client = api.anonymous()
    given_ = await client.get("/health/live", headers={"X-Request-Id": "mine-1"})
    assert given_.headers["x-request-id"] == "mine-1"
    for bad in ("a b", "x" * 129, "<b>", ""):
        made = await client.get("/health/live", headers={"X-Request-Id": bad})
        assert made.headers["x-request-id"] != bad


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
MEMBERS = st.sampled_from(
    [
        "notebookName",
        "notebookDescription",
        "kernelType",
        "template",
        "integration",
        "environment",
        "initialCells",
        "cells",
        "dateModified",
        "executionMode",
        "cellRange",
        "parameters",
        "outputOptions",
        "timeout",
        "cellTimeout",
        "priority",
    ]
)
CELL = st.fixed_dictionaries(
    {"cellType": st.sampled_from(["code", "markdown", "raw"]) | VALUES, "content": st.text()},
    optional={"metadata": VALUES, "tags": VALUES, "attachments": VALUES, "cellId": VALUES},
)
BODIES = st.dictionaries(MEMBERS, VALUES | st.lists(CELL)) | st.dictionaries(st.text(), VALUES).map(
    lambda extra: {"notebookName": "x", **extra}
)


async def test_no_body_and_no_query_brings_it_down(api: Api) -> None:
    client = await api.client()
    path = f"/notebook/{(await new_notebook(client, 'x'))['notebookId']}"
    loop = asyncio.get_running_loop()

    async def send(body: Any, text: str, cell: str) -> None:
        content = json.dumps(body).encode()
        made = await client.post("/notebook", content=content, headers=JSON)
        assert made.status_code in (201, 422)
        if made.status_code == 201:
            # Whatever was taken can be read, run and downloaded.
            new = f"/notebook/{made.json()['notebookId']}"
            assert (await client.get(f"{new}/download")).status_code == 200
            assert (await client.post(f"{new}/execute")).status_code in (202, 409)
        assert (await client.put(path, content=content, headers=JSON)).status_code in (
            200,
            409,
            422,
        )
        run = await client.post(f"{path}/execute", content=content, headers=JSON)
        assert run.status_code in (202, 409, 422)
        for address in ("/notebooks", f"{path}/history", f"{path}/download"):
            names = ("status", "page", "after", "limit", "executionId", cell or "x")
            query = dict.fromkeys(names, text)
            assert (await client.get(address, params=query)).status_code in (200, 404, 422)
        odd = await client.get(path, headers={"If-None-Match": ascii(text), "Prefer": ascii(cell)})
        assert odd.status_code == 200

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        derandomize=True,
    )
    @given(BODIES, st.text(), st.text())
    def check(body: Any, text: str, cell: str) -> None:
        text, cell = (t.encode("utf-8", "replace").decode() for t in (text, cell))
        asyncio.run_coroutine_threadsafe(send(body, text, cell), loop).result(60)

    await asyncio.to_thread(check)


def test_codes_are_described_and_statuses_are_the_promised_ones() -> None:
    assert set(KINDS) == set(Code)
    assert {kind.status for kind in KINDS.values()} == {
        400,
        401,
        403,
        404,
        405,
        409,
        410,
        412,
        413,
        415,
        416,
        422,
        429,
        500,
        503,
    }
