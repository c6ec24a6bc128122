"""Notebooks over HTTP."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import nbformat
import pytest
from support.api import Api, new_notebook, unknown_id
from support.shared_api import api, api_server

from nbledger_http.description import notebook_examples
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.settings import Worker

__all__ = ["api", "api_server"]

CELLS = [
    {"cellType": "markdown", "content": "# Title"},
    {"cellType": "code", "content": "x = 1", "tags": ["parameters"]},
]


async def test_the_life_of_a_notebook(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    body = {"notebookName": "Analytics", "template": None, "integration": None}
    made = await client.post("/notebook", json={**body, "initialCells": CELLS})
    assert made.status_code == 201
    notebook = made.json()
    assert notebook["notebookVersion"] == "1.0.0"
    assert notebook["session"]["offered"] is False
    assert [cell["cellId"] for cell in notebook["cells"]] == ["cell-001", "cell-002"]
    assert notebook["createdBy"] == "tester"
    path = f"/notebook/{notebook['notebookId']}"
    assert made.headers["location"] == api.base + path

    read = await client.get(path)
    assert read.headers["etag"] == made.headers["etag"]
    # What was read may be sent back whole, and changes nothing.
    same = await client.put(path, json=read.json(), headers={"If-Match": read.headers["etag"]})
    assert same.headers["etag"] == read.headers["etag"]
    assert same.json()["warnings"] == []

    assert (await client.delete(path)).status_code == 204
    for method in ("GET", "PUT", "DELETE"):
        answer = await client.request(method, path, json={})
        assert answer.status_code == 404
        assert answer.json()["code"] == "notebook_not_found"


async def test_the_body_of_the_contract_creates_a_notebook(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = (await client.post("/notebook", json=notebook_examples.CREATE_NOTEBOOK)).json()
    assert made["template"] == "process_mining_starter"
    ids = [cell["cellId"] for cell in made["cells"]]
    assert ids == [f"cell-{i:03d}" for i in range(1, len(ids) + 1)]
    assert made["cells"][-1]["content"] == "import pandas as pd"
    assert any("no dataset" in warning for warning in made["warnings"])
    path = f"/notebook/{made['notebookId']}"
    changed = await client.put(path, json=notebook_examples.UPDATE_NOTEBOOK)
    assert changed.json()["notebookVersion"] == "1.0.1"
    assert changed.json()["integration"]["scheduleExecution"] == "0 2 * * *"


async def test_an_output_format_that_nothing_writes_is_told(api: Api) -> None:
    client = await api.client(Role.EDITOR)

    def told(answer: dict[str, Any]) -> list[str]:
        return [warning for warning in answer.get("warnings", []) if "outputFormat" in warning]

    for known in ("csv", "parquet", "enriched_dataframe", None):
        assert told(await new_notebook(client, "a", integration={"outputFormat": known})) == []
    made = await new_notebook(client, "a", integration={"outputFormat": "excel"})
    expected = [
        "outputFormat: 'excel' is kept but unknown; known are enriched_dataframe, csv, parquet"
    ]
    assert told(made) == expected
    path = f"/notebook/{made['notebookId']}"
    same = await client.put(path, json={"integration": {"outputFormat": "excel"}})
    assert told(same.json()) == []
    other = await client.put(path, json={"integration": {"outputFormat": "xlsx"}})
    (warning,) = told(other.json())
    assert "'xlsx' is kept but unknown" in warning


async def test_update_is_partial_and_bumps_the_version(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    notebook = await new_notebook(client, "a", "b", integration={"outputFormat": "csv"})
    path = f"/notebook/{notebook['notebookId']}"
    named = (await client.put(path, json={"integration": {"enrichmentMode": True}})).json()
    assert named["notebookVersion"] == "1.0.1"
    assert named["integration"]["outputFormat"] == "csv"
    cells = [{"cellId": "cell-002"}, {"cellType": "raw", "content": "new"}]
    changed = (await client.put(path, json={"cells": cells, "oddity": 1})).json()
    assert changed["notebookVersion"] == "1.1.0"
    assert [(c["cellId"], c["content"]) for c in changed["cells"]] == [
        ("cell-002", "b"),
        ("cell-003", "new"),
    ]
    assert changed["warnings"] == ["/oddity: unknown member, ignored"]
    untouched = await client.put(path, json={"notebookName": "N"})
    assert untouched.json()["notebookVersion"] == "1.1.0"
    refused = await client.put(path, json={"kernelType": "r", "cells": [{"cellId": "new"}]})
    assert [e["pointer"] for e in refused.json()["errors"]] == [
        "/cells/0/cellType",
        "/cells/0/content",
        "/kernelType",
    ]


async def test_preconditions_guard_updates(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    notebook = await new_notebook(client, "a")
    path = f"/notebook/{notebook['notebookId']}"
    etag = (await client.get(path)).headers["etag"]
    first = await client.put(path, json={"notebookName": "1"}, headers={"If-Match": etag})
    assert first.status_code == 200
    for stale in (etag, '"nonsense"', f"W/{first.headers['etag']}"):
        late = await client.put(path, json={"notebookName": "2"}, headers={"If-Match": stale})
        assert late.status_code == 412
    late = await client.put(
        path, json={"notebookName": "2", "dateModified": notebook["dateModified"]}
    )
    assert late.status_code == 409
    assert late.json()["code"] == "stale_version"
    # With what is told of it, the client's next try is a good one.
    current = late.json()["dateModified"]
    assert current == (await client.get(path)).json()["dateModified"]
    again = await client.put(path, json={"notebookName": "1", "dateModified": current})
    assert again.status_code == 200
    any_ = await client.put(path, json={"notebookName": "2"}, headers={"If-Match": "*"})
    assert any_.status_code == 200
    # An execution changes the entity tag of the whole, but does not spoil an edit.
    read = await client.get(path)
    assert (await client.post(f"{path}/execute")).status_code == 202
    assert (await client.get(path)).headers["etag"] != read.headers["etag"]
    fresh = await client.put(path, json=read.json(), headers={"If-Match": read.headers["etag"]})
    assert fresh.status_code == 200


async def test_conditional_reads(api: Api) -> None:
    client = await api.client(Role.READER, Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, 'a'))['notebookId']}"
    read = await client.get(path)
    for headers in (
        {"If-None-Match": read.headers["etag"]},
        {"If-None-Match": f'"x", W/{read.headers["etag"]}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": "Wed, 01 Jan 2098 00:00:00 GMT"},
    ):
        answer = await client.get(path, headers=headers)
        assert answer.status_code == 304, headers
        assert answer.content == b""
        assert answer.headers["etag"] == read.headers["etag"]
    for headers in (
        {"If-None-Match": '"x"', "If-Modified-Since": read.headers["last-modified"]},
        {"If-Modified-Since": "not a date"},
        {"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
    ):
        assert (await client.get(path, headers=headers)).status_code == 200, headers
    for name in ("b", "c"):  # two changes in one second, which have one and the same date
        read = await client.get(path)
        since = {"If-Modified-Since": read.headers["last-modified"]}
        await client.put(path, json={"notebookName": name})
        assert (await client.get(path, headers=since)).json()["notebookName"] == name
    head = await client.head(path)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(read.content))


async def test_lists_are_filtered_paged_and_say_what_they_know(api: Api) -> None:
    client = await api.client(Role.READER)
    found = await client.get("/notebooks?status=Ready&enrichmentMode=false&page=1&pageSize=5")
    assert found.status_code == 200
    assert found.json() == {
        "notebooks": [],
        "totalCount": 0,
        "page": 1,
        "pageSize": 5,
        "hasNextPage": False,
    }
    assert found.headers["nbledger-position"] == "0"
    # No projector runs here: the wait comes to its end.
    waited = await client.get(
        "/notebooks", headers={"Nbledger-Position": "999999", "Prefer": "respond-async, wait=1"}
    )
    assert waited.status_code == 200
    assert waited.elapsed.total_seconds() > 0.9
    wrong = await client.get(
        "/notebooks?status=Odd&kernelType=cobol&enrichmentMode=maybe&page=0&pageSize=101",
        headers={"Nbledger-Position": "x"},
    )
    assert wrong.status_code == 422
    assert {e["pointer"] for e in wrong.json()["errors"]} == {
        "?status",
        "?kernelType",
        "?enrichmentMode",
        "?page",
        "?pageSize",
        "Nbledger-Position",
    }


async def test_upload_and_download_keep_every_cell(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    source: dict[str, Any] = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}},
        "cells": [
            {
                "cell_type": "markdown",
                "id": "intro",
                "metadata": {"tags": ["x"]},
                "source": ["# ünï\n", "text"],
                "attachments": {"a.png": {"image/png": "aGk="}},
            },
            {
                "cell_type": "code",
                "id": "c1",
                "metadata": {},
                "execution_count": 7,
                "source": ["1+1"],
                "outputs": [
                    {
                        "output_type": "execute_result",
                        "execution_count": 7,
                        "metadata": {},
                        "data": {"text/plain": ["2"]},
                    }
                ],
            },
        ],
    }
    data = {"notebookName": "Up", "enrichmentMode": "true", "datasetBinding": "", "odd": "1"}
    files = {"file": ("a.ipynb", json.dumps(source).encode(), "application/json")}
    made = await client.post("/notebook/upload", data=data, files=files)
    assert made.status_code == 201, made.text
    notebook = made.json()
    assert notebook["kernelType"] == "r"
    assert notebook["parsing"] == {
        "nbformat": "4.5",
        "cells": {"code": 1, "markdown": 1, "raw": 0, "total": 2},
        "upgrades": [],
    }
    assert notebook["warnings"] == [
        "/odd: unknown member, ignored",
        "kernelType: no live worker offers 'r' now",
    ]
    assert notebook["integration"]["datasetBinding"] is None
    assert [c["cellId"] for c in notebook["cells"]] == ["intro", "c1"]
    path = f"/notebook/{notebook['notebookId']}"
    down = await client.get(f"{path}/download")
    assert down.headers["content-disposition"] == 'attachment; filename="Up.ipynb"'
    assert down.json() == source
    # An edit of a cell takes its output away, and leaves the others.
    cells = [{"cellId": "intro"}, {"cellId": "c1", "content": "2+2"}]
    assert (await client.put(path, json={"cells": cells})).status_code == 200
    again = (await client.get(f"{path}/download")).json()
    assert again["cells"][1]["outputs"] == []
    assert again["cells"][0] == source["cells"][0]


@pytest.mark.parametrize("kernel_type", ["python3", "r", "scala"])
async def test_a_notebook_made_here_keeps_its_kernel_through_a_file(
    api: Api, kernel_type: str
) -> None:
    client = await api.client(Role.EDITOR)
    made = await new_notebook(client, "1", kernelType=kernel_type)
    down = await client.get(f"/notebook/{made['notebookId']}/download")
    metadata = down.json()["metadata"]
    assert metadata["kernelspec"]["name"] == Worker().kernels[kernel_type]
    assert metadata["kernelspec"]["language"] == metadata["language_info"]["name"]
    nbformat.validate(down.json())
    again = await client.post("/notebook/upload", files={"file": ("a.ipynb", down.content)})
    assert again.json()["kernelType"] == kernel_type
    second = await client.get(f"/notebook/{again.json()['notebookId']}/download")
    assert second.content == down.content


@pytest.mark.parametrize(("field", "added"), [({}, False), ({"kernelType": "r"}, True)])
async def test_a_file_without_a_kernelspec_gets_one_only_where_it_is_needed(
    api: Api,
    field: dict[str, str],
    added: bool,  # noqa: FBT001
) -> None:
    client = await api.client(Role.EDITOR)
    content = b'{\n "cells": [],\n "metadata": {},\n "nbformat": 4,\n "nbformat_minor": 5\n}\n'
    made = await client.post("/notebook/upload", data=field, files={"file": ("a.ipynb", content)})
    down = await client.get(f"/notebook/{made.json()['notebookId']}/download")
    assert (down.content == content) is not added
    again = await client.post("/notebook/upload", files={"file": ("a.ipynb", down.content)})
    assert again.json()["kernelType"] == made.json()["kernelType"]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"{", "/file"),
        (b"\xff", "/file"),
        (b"[]", "/file"),
        (b'{"nbformat": 9, "cells": []}', "/file/nbformat"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "/file/cells"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}', "/file/cells/0"),
        (b"[" * 100_000, "/file"),
    ],
)
async def test_a_broken_file_is_refused_with_where_and_why(
    api: Api, content: bytes, where: str
) -> None:
    client = await api.client(Role.EDITOR)
    answer = await client.post("/notebook/upload", files={"file": ("a.ipynb", content)})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(where)


ODD = {
    "nbformat": 4,
    "nbformat_minor": 99,
    "metadata": {"kernelspec": {"display_name": "Python 3"}, "n": float("inf"), "x": "\udc00"},
    "cells": [
        {
            "cell_type": "code",
            "id": "c1",
            "metadata": {"tags": ["a", "a"], "big": 10**400},
            "source": ["'\ud800\0'"],
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": "bad \udcc3 end"},
                {
                    "output_type": "display_data",
                    "data": {"application/json": {"a": float("nan"), "b": float("inf")}},
                    "metadata": {},
                },
            ],
        },
        {"cell_type": "later", "id": "c2"},
    ],
}


async def test_an_odd_file_is_kept_whole_enough_to_be_read_run_and_uploaded_again(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    files = {"file": ("a.ipynb", json.dumps(ODD).encode())}
    made = await client.post("/notebook/upload", files=files)
    assert made.status_code == 201, made.text
    notebook = made.json()
    assert notebook["kernelType"] == "python3"
    assert notebook["parsing"]["nbformat"] == "4.99"
    told = "\n".join(notebook["warnings"])
    assert "cell 1 (c1), outputs: 2 numbers that JSON does not know (NaN, Infinity) became" in told
    assert "cell 1 (c1), outputs: half of a surrogate pair became U+FFFD in 1 text" in told
    path = f"/notebook/{notebook['notebookId']}"
    assert (await client.post(f"{path}/execute")).status_code == 202
    down = await client.get(f"{path}/download")
    cell = down.json()["cells"][0]
    assert cell["source"] == ["'\ufffd\ufffd'"]
    assert cell["outputs"][1]["data"]["application/json"] == {"a": None, "b": None}
    assert cell["metadata"] == {"tags": ["a"], "big": 10**400}
    again = await client.post("/notebook/upload", files={"file": ("a.ipynb", down.content)})
    assert again.json()["cells"][0]["content"] == notebook["cells"][0]["content"]
    assert (await client.get(f"/notebook/{again.json()['notebookId']}/download")).json() == (
        down.json()
    )


async def test_a_kernel_type_is_what_the_file_says(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    spec = {"name": "julia-1.9", "display_name": "Julia", "language": "julia"}
    book = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": spec}, "cells": []}
    cell = {"cell_type": "code", "id": "c", "metadata": {}, "source": "1", "outputs": []}
    content = json.dumps({**book, "cells": [{**cell, "execution_count": None}]}).encode()
    made = (await client.post("/notebook/upload", files={"file": ("a.ipynb", content)})).json()
    assert made["kernelType"] == "julia-1.9"
    assert made["warnings"] == ["kernelType: no live worker offers 'julia-1.9' now"]
    run = await client.post(f"/notebook/{made['notebookId']}/execute")
    assert run.status_code == 202, "it waits, as this installation is set"
    assert "no live worker offers the kernel type 'julia-1.9'" in run.json()["warnings"][0]
    down = await client.get(f"/notebook/{made['notebookId']}/download")
    assert down.json()["metadata"] == book["metadata"]
    # Whoever knows better says so.
    fields = {"kernelType": "python3"}
    other = await client.post("/notebook/upload", data=fields, files={"file": ("a", content)})
    assert other.json()["kernelType"] == "python3"
    assert "the file is for julia-1.9; the notebook runs on python3" in other.json()["warnings"]
    # No projector runs here: the list does not know it yet, and says so only when it has waited.
    for headers in ({}, {"Nbledger-Position": "1", "Prefer": "wait=0"}):
        found = await client.get("/notebooks?kernelType=julia-1.9", headers=headers)
        assert found.status_code == 422
        assert "python3, r, scala, or the kernel type of a notebook" in found.json()["detail"]


async def test_history_is_for_auditors_and_outlives_the_notebook(api: Api) -> None:
    editor, auditor = await api.client(Role.EDITOR), await api.client(Role.AUDITOR)
    notebook = await new_notebook(editor, "a")
    path = f"/notebook/{notebook['notebookId']}"
    await editor.put(path, json={"notebookName": "B"})
    assert (await editor.get(f"{path}/history")).status_code == 403
    page = (await auditor.get(f"{path}/history?limit=1")).json()
    assert [event["type"] for event in page["events"]] == ["notebook.created.v1"]
    rest = (await auditor.get(f"{path}/history?after={page['next']}")).json()
    assert [event["type"] for event in rest["events"]] == [
        "notebook.renamed.v1",
        "notebook.version-bumped.v1",
    ]
    assert rest["next"] is None
    assert rest["events"][0]["data"] == {"name": "B"}
    assert rest["events"][0]["actor"] == "tester"
    await editor.delete(path)
    await api.store.erase_subject(UUID(notebook["notebookId"]))
    after = (await auditor.get(f"{path}/history")).json()["events"]
    assert after[-1]["type"] == "notebook.deleted.v1"
    assert after[0]["data"] is None
    for query in ("limit=0", "limit=1001", "after=-1", "after=x"):
        assert (await auditor.get(f"{path}/history?{query}")).status_code == 422
    assert (await auditor.get(f"/notebook/{unknown_id()}/history")).status_code == 404
