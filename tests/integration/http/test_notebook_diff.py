"""Two versions of a notebook compared over HTTP, as JSON and as a page."""

from __future__ import annotations

import html
from html.parser import HTMLParser
from typing import Any

import httpx
from support.api import Api, new_notebook
from support.nbdime_patches import patched
from support.shared_api import api, api_server

from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

HOSTILE = "<script>alert('x')</script>\n</pre>\u202eevil\u202c & \"q\"\n"
DATASET = "880e8400-e29b-41d4-a716-446655440000"


async def story(client: httpx.AsyncClient) -> tuple[str, list[dict[str, Any]]]:
    """A notebook with several versions: its path, and what each version was."""
    made = await new_notebook(client, "a = 1\nb = 2\nprint(a)\n", "gone\n", "last")
    path = f"/notebook/{made['notebookId']}"
    first, _, last = made["cells"]
    first = {**first, "content": "a = 1\nb = 22\nc = 3\nprint(a)", "metadata": {"tags": ["x"]}}
    new = {
        "cellType": "code",
        "content": f"n = 5\nd = '{DATASET}'",
        "metadata": {"tags": ["parameters"]},
    }
    versions = [made]
    for body in (
        {"cells": [last, first, new]},
        {"notebookName": "Other", "integration": {"datasetBinding": DATASET}},
        {"cells": [{"cellType": "markdown", "content": HOSTILE}]},
    ):
        answer = await client.put(path, json=body)
        assert answer.status_code == 200, answer.text
        versions.append(answer.json())
    return path, versions


def nbformat(version: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": cell["cellId"],
            "cell_type": cell["cellType"],
            "metadata": cell["metadata"],
            "source": cell["content"],
            **({"execution_count": None, "outputs": []} if cell["cellType"] == "code" else {}),
        }
        for cell in version["cells"]
    ]


async def test_versions_are_compared_cell_by_cell(api: Api) -> None:
    client = await api.client(Role.ADMIN)
    path, versions = await story(client)
    names = [each["notebookVersion"] for each in versions]
    assert names == ["1.0.0", "1.1.0", "1.1.1", "1.2.0"]
    answer = await client.get(f"{path}/diff", params={"from": names[0], "to": names[2]})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["from"]["notebookVersion"] == "1.0.0"
    assert told["to"]["notebookVersion"] == "1.1.1"
    assert not told["identical"]
    counts = told["counts"]
    assert (counts["added"], counts["removed"]) == (1, 1)
    assert {counts["changed"], counts["moved"]} <= {0, 1}  # which of two has moved may be either
    by_id = {cell["cellId"]: cell for cell in told["cells"]}
    first, gone, last = (cell["cellId"] for cell in versions[0]["cells"])
    assert by_id[gone]["change"] == "removed"
    assert (by_id[first]["before"], by_id[first]["after"]) == (0, 1)
    assert by_id[first]["parts"] == ["source", "metadata"]
    assert (by_id[last]["before"], by_id[last]["after"]) == (2, 0)
    source = next(each["diff"] for each in by_id[first]["diff"] if each["key"] == "source")
    assert source == [
        {"op": "patch", "key": 1, "diff": [{"op": "addrange", "key": 5, "valuelist": "2"}]},
        {"op": "addrange", "key": 2, "valuelist": ["c = 3\n"]},
        {"op": "patch", "key": 2, "diff": [{"op": "removerange", "key": 8, "length": 1}]},
    ]
    assert told["notebook"] == [
        {"path": "/integration/datasetBinding", "before": None, "after": DATASET},
        {"path": "/notebookName", "before": "N", "after": "Other"},
    ]
    assert {each["path"]: each["after"]["default"] for each in told["parameters"]} == {
        "/n": 5,
        "/d": DATASET,
    }
    assert told["datasets"] == [
        {"path": "/datasetBinding", "after": DATASET},
        {"path": "/parameters", "after": {"d": DATASET}},
    ]
    for before in versions:
        for after in versions:
            params = {"from": before["notebookVersion"], "to": after["notebookVersion"]}
            told = (await client.get(f"{path}/diff", params=params)).json()
            assert patched(nbformat(before), told["diff"]) == nbformat(after), params
            assert told["identical"] == (before is after)


async def test_both_sides_may_be_any_moment(api: Api) -> None:
    client = await api.client(Role.AUDITOR)
    path, _ = await story(await api.client(Role.EDITOR))
    head = await api.store.head_position()
    now = await client.get(f"{path}/diff", params={"from": "1.1.0"})
    assert now.json()["to"]["notebookVersion"] == "1.2.0"
    assert now.json()["to"]["position"] >= head  # that it is read is an event, too
    head = await api.store.head_position()
    same = await client.get(f"{path}/diff", params={"from": str(head), "to": "1.2.0"})
    assert same.json()["identical"]
    assert same.json()["diff"] == []
    tag = {"If-None-Match": same.headers["etag"]}
    again = await client.get(f"{path}/diff", params={"from": str(head), "to": "1.2.0"}, headers=tag)
    assert again.status_code == 304
    for params, named in (
        ({"from": "7.0.0", "to": "1.1.0"}, "7.0.0"),
        ({"from": "1.0.0", "to": "8.0.0"}, "8.0.0"),
    ):
        missing = await client.get(f"{path}/diff", params=params)
        assert (missing.status_code, missing.json()["code"]) == (404, "version_not_found")
        assert named in missing.json()["detail"]
    for params, pointer in (
        ({"to": "1.1.0"}, "?from"),
        ({"from": "x"}, "?from"),
        ({"from": "1.0.0", "to": str(head + 1)}, "?to"),
        ({"from": "1.0.0", "format": "pdf"}, "?format"),
    ):
        refused = await client.get(f"{path}/diff", params=params)
        assert refused.status_code == 422, refused.text
        assert refused.json()["errors"][0]["pointer"] == pointer


class _Page(HTMLParser):
    """What a browser would make of a page: its elements, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_shows_changes_and_runs_nothing(api: Api) -> None:
    client = await api.client(Role.ADMIN)
    path, _ = await story(client)
    params = {"from": "1.0.0", "to": "1.2.0", "format": "html"}
    answer = await client.get(f"{path}/diff", params=params)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = _Page()
    page.feed(answer.text)
    assert not page.tags & {"script", "img", "link", "iframe", "a"}
    assert page.attributes <= {"lang", "charset", "name", "content", "class"}
    assert html.escape("<script>alert('x')</script>") in answer.text
    assert "\u202e" not in answer.text
    assert "prefers-color-scheme: dark" in answer.text
    for text in ("1.0.0", "1.2.0", "Notebook", "/notebookName", '"Other"', "removed", "added"):
        assert text in page.text, text
    changed = await client.get(f"{path}/diff", params={**params, "to": "1.1.0"})
    assert "b = 2<ins>2</ins>" in changed.text
    assert "<del>↵</del>" in changed.text
    same = await client.get(f"{path}/diff", params={**params, "to": "1.0.0"})
    assert "Both are the same." in same.text
