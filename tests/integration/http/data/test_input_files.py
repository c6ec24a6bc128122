"""Input files of notebooks over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from support.api import Api, new_notebook, running_api, settings_for
from support.read_models import catch_up
from support.shared_api import ServerThread, api, api_server

from nbledger_application import repository
from nbledger_application.reactions import eraser
from nbledger_domain.input_files import FileLimits
from nbledger_domain.notebook import Notebook
from nbledger_http.requests import forms
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.artifacts.store import ArtifactStore, open_store
from nbledger_infrastructure.postgres import database
from nbledger_infrastructure.postgres.database import acquire
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, StoreUnavailableError
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.read_models.notebooks import details as notebook_details

__all__ = ["api", "api_server"]

INPUT = b"order,amount\n0017,120\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def parts(**files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (name, content)) for name, content in files.items()]


def kept_files(api: Api, api_server: ServerThread) -> list[str]:
    store = open_store(api_server.settings.artifacts.url)
    paths = [entry["path"] for batch in store.list() for entry in batch]
    return [path for path in paths if str(api.project_id) in path]


async def test_the_life_of_an_input_file(api: Api, api_server: ServerThread) -> None:
    client = await api.client(Role.EDITOR)
    made = await new_notebook(client, "open('data/input.csv').read()")
    assert made["files"] == []
    path = f"/notebook/{made['notebookId']}"
    form = {"file": ("orders.csv", INPUT)}
    added = await client.post(f"{path}/file", files=form, data={"path": "data/in put.csv"})
    assert added.status_code == 201, added.text
    told = added.json()
    (file,) = told["files"]
    assert file == {
        "path": "data/in put.csv",
        "contentType": "text/csv",
        "size": len(INPUT),
        "digest": sha256(INPUT),
        "dateModified": file["dateModified"],
    }
    assert (told["notebookVersion"], told["warnings"]) == ("1.1.0", [])
    assert added.headers["etag"] == f'"{sha256(INPUT)}"'
    assert added.headers["location"] == f"{api.base}{path}/file/{quote(file['path'])}"

    notebook = await client.get(path)
    assert notebook.json()["files"] == [file]
    assert notebook.json()["notebookVersion"] == "1.1.0"
    assert notebook.json()["dateModified"] == file["dateModified"]
    assert told["notebookEtag"] == notebook.headers["etag"]
    # What a projector has written is what the events say.
    await catch_up(api.pool, notebook_details.NAME)
    assert (await client.get(path)).content == notebook.content
    # What was read may be sent back.
    same = await client.put(path, json=notebook.json())
    assert same.json()["warnings"] == []
    assert same.json()["notebookVersion"] == "1.1.0"

    address = f"{path}/file/data/in%20put.csv"
    read = await client.get(address)
    assert read.content == INPUT
    assert read.headers["etag"] == added.headers["etag"]
    assert read.headers["content-type"] == "text/csv; charset=utf-8"
    assert read.headers["content-disposition"] == 'attachment; filename="in put.csv"'
    part = await client.get(address, headers={"Range": "bytes=0-4"})
    assert (part.status_code, part.content) == (206, b"order")
    known = await client.get(address, headers={"If-None-Match": read.headers["etag"]})
    assert known.status_code == 304

    # The same again changes nothing; another content is refused, then replaces.
    again = await client.post(f"{path}/file", files=form, data={"path": "data/in put.csv"})
    assert (again.status_code, again.json()) == (200, told)
    form = {"file": ("data/in put.csv", b"other")}
    refused = await client.post(f"{path}/file", files=form)
    assert (refused.status_code, refused.json()["code"]) == (409, "file_exists")
    assert "'data/in put.csv'" in refused.json()["detail"]
    replaced = await client.post(f"{path}/file", files=form, data={"replace": "true"})
    assert (replaced.status_code, replaced.json()["notebookVersion"]) == (200, "1.2.0")
    assert (await client.get(address)).content == b"other"

    removed = await client.delete(address)
    assert removed.status_code == 204
    gone = await client.get(address)
    assert (gone.status_code, gone.json()["code"]) == (404, "file_not_found")
    assert (await client.delete(address)).json()["code"] == "file_not_found"
    after = (await client.get(path)).json()
    assert (after["files"], after["notebookVersion"]) == ([], "1.3.0")
    assert after["dateModified"] > file["dateModified"]

    auditor = await api.client(Role.AUDITOR)
    history = (await auditor.get(f"{path}/history")).json()["events"]
    assert [event["type"] for event in history[1:]] == [
        *("notebook.files-put.v1", "notebook.version-bumped.v1") * 2,
        *("notebook.files-removed.v1", "notebook.version-bumped.v1"),
    ]
    (put,) = history[1]["data"]["files"]
    assert (put["path"], put["digest"]) == ("data/in put.csv", sha256(INPUT))
    assert history[3]["data"]["replaced"] == ["data/in put.csv"]
    assert history[5]["data"] == {"paths": ["data/in put.csv"]}

    # Both contents are kept for the versions that had them, and go with the notebook.
    kept = await asyncio.to_thread(kept_files, api, api_server)
    assert {each.rpartition("/")[2] for each in kept} == {sha256(INPUT), sha256(b"other")}
    assert (await client.delete(path)).status_code == 204
    events = await api.store.read_stream(UUID(made["notebookId"]))
    artifacts = ArtifactStore(open_store(api_server.settings.artifacts.url))
    await eraser.react(api.store, api.pool, artifacts, events)
    assert await asyncio.to_thread(kept_files, api, api_server) == []
    erased = await api.store.read_stream(UUID(made["notebookId"]))
    assert [event.data for event in erased] == [None] * len(events)
    assert (await client.get(address)).json()["code"] == "notebook_not_found"
    late = await client.post(f"{path}/file", files=form)
    assert late.json()["code"] == "notebook_not_found"


async def test_one_file_can_be_put_as_it_is(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    address = f"{path}/file/data/{quote('données.csv')}"
    made = await client.put(address, content=INPUT, headers={"If-None-Match": "*"})
    assert made.status_code == 201, made.text
    assert made.json()["files"][0]["path"] == "data/données.csv"
    assert (await client.get(address)).content == INPUT
    exists = await client.put(address, content=b"new", headers={"If-None-Match": "*"})
    assert (exists.status_code, exists.json()["code"]) == (412, "precondition_failed")
    new = await client.put(address, content=b"new", headers={"If-Match": made.headers["etag"]})
    assert (new.status_code, new.json()["notebookVersion"]) == (200, "1.2.0")
    # Neither the old file's tag nor the notebook's of before holds now.
    for tag in (made.headers["etag"], made.json()["notebookEtag"]):
        for answer in (
            await client.put(address, content=b"newer", headers={"If-Match": tag}),
            await client.delete(address, headers={"If-Match": tag}),
            await client.post(f"{path}/file", files=parts(x=b"1"), headers={"If-Match": tag}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    tag = (await client.get(f"{path}/files")).headers["etag"]
    empty = await client.put(f"{path}/file/empty", content=b"", headers={"If-Match": tag})
    assert (empty.status_code, empty.json()["files"][0]["size"]) == (201, 0)
    assert (await client.get(f"{path}/file/empty")).content == b""
    tag = empty.json()["notebookEtag"]
    assert (await client.delete(address, headers={"If-Match": tag})).status_code == 204

    for bad, reason in (
        ("%2Fetc/passwd", "is absolute"),
        ("a%5Cb", "backslash"),
        ("a%E2%80%8Bb", "has U+200B (ZERO WIDTH SPACE)"),
        ("outputs/x.csv", "what runs leave behind"),
        ("a%FFb", "is no text in UTF-8"),
        ("EMPTY", "differs from 'empty' in upper and lower case only"),
    ):
        refused = await client.put(f"{path}/file/{bad}", content=b"x")
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_files"), bad
        (fault,) = refused.json()["errors"]
        assert fault["pointer"] == "/path"
        assert reason in fault["reason"]
    odd = await client.put(f"{path}/file/10:30.csv", content=b"x")
    assert odd.json()["warnings"] == ["Windows cannot hold files of these names: '10:30.csv' has :"]
    packed = await client.put(address, content=b"x", headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415


async def test_a_put_may_rule_out_what_is_there(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    address = f"{path}/file/a.csv"

    async def put(content: bytes, none_match: str) -> int:
        answer = await client.put(address, content=content, headers={"If-None-Match": none_match})
        if not answer.is_success:
            assert answer.json()["code"] == "precondition_failed"
            assert "'a.csv'" in answer.json()["detail"]
        return answer.status_code

    assert await put(b"1", "*") == 201
    tag = (await client.get(address)).headers["etag"]
    # Whatever the content is, the same as well.
    for none_match in ("*", tag, f'"other", W/{tag}'):
        assert [await put(content, none_match) for content in (b"1", b"2")] == [412, 412]
    assert (await client.get(address)).content == b"1"
    assert await put(b"2", '"other"') == 200
    assert await put(b"3", tag) == 200
    held = (await client.get(path)).json()
    assert (await client.delete(address)).status_code == 204
    assert await put(b"4", tag) == 201
    assert held["notebookVersion"] == "1.3.0"


async def test_what_was_kept_under_a_name_that_is_refused_now_can_be_read_and_removed(
    api: Api,
) -> None:
    client = await api.client(Role.EDITOR)
    notebook_id = UUID((await new_notebook(client, "1"))["notebookId"])
    path = f"/notebook/{notebook_id}"
    assert (await client.put(f"{path}/file/plain.csv", content=INPUT)).status_code == 201
    loaded = await aggregates.load(api.store, Notebook, notebook_id)
    assert loaded is not None
    (plain,) = loaded.aggregate.files.values()
    loaded.aggregate.put_files(
        [msgspec.structs.replace(plain, path="a\u200bb.csv")],
        replace=False,
        limits=FileLimits(count=9, total_bytes=1000),
        at=clock.now(),
    )
    await repository.save(api.store, loaded.aggregate, loaded.stream, Metadata(actor="tester"))
    address = f"{path}/file/a%E2%80%8Bb.csv"
    assert (await client.get(address)).content == INPUT
    assert (await client.delete(address)).status_code == 204
    assert (await client.get(address)).json()["code"] == "file_not_found"


async def test_files_are_listed_by_path_in_pages_and_as_a_run_had_them(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    names = ["b.csv", "data/a.csv", "a.csv"]
    added = await client.post(
        f"{path}/file", files=parts(**{name: name.encode() for name in names})
    )
    assert added.status_code == 201, added.text
    assert [each["path"] for each in added.json()["files"]] == sorted(names)
    assert added.json()["notebookVersion"] == "1.1.0"
    assert "location" not in added.headers
    run = (await client.post(f"{path}/execute")).json()["executionId"]
    assert (await client.delete(f"{path}/file/b.csv")).status_code == 204

    pages = [
        (await client.get(f"{path}/files", params={"page": page, "pageSize": 1})).json()
        for page in (1, 2)
    ]
    assert [[file["path"] for file in page["files"]] for page in pages] == [
        ["a.csv"],
        ["data/a.csv"],
    ]
    assert [page["hasNextPage"] for page in pages] == [True, False]
    assert (pages[0]["totalCount"], pages[0]["totalSize"]) == (2, 15)
    assert pages[0]["notebookVersion"] == "1.2.0"
    then = (await client.get(f"{path}/files", params={"executionId": run})).json()
    assert [file["path"] for file in then["files"]] == sorted(names)
    assert then["notebookVersion"] == "1.1.0"
    old = await client.get(f"{path}/file/b.csv", params={"executionId": run})
    assert old.content == b"b.csv"
    for query, pointer in (({"page": "0"}, "?page"), ({"pageSize": "x"}, "?pageSize")):
        refused = await client.get(f"{path}/files", params=query)
        assert refused.json()["errors"][0]["pointer"] == pointer
    unknown = await client.get(f"{path}/files", params={"executionId": str(uuid4())})
    assert unknown.json()["code"] == "execution_not_found"
    fresh = await client.get(f"{path}/files")
    same = await client.get(f"{path}/files", headers={"If-None-Match": fresh.headers["etag"]})
    assert same.status_code == 304

    reader = await api.client(Role.READER)
    assert (await reader.get(f"{path}/file/a.csv")).content == b"a.csv"
    for answer in (
        await reader.post(f"{path}/file", files=parts(x=b"")),
        await reader.put(f"{path}/file/x", content=b""),
        await reader.delete(f"{path}/file/a.csv"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    stranger = await api.client(tenant_id=uuid4())
    for answer in (
        await stranger.get(f"{path}/files"),
        await stranger.get(f"{path}/file/a.csv"),
        await stranger.post(f"{path}/file", files=parts(x=b"")),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "notebook_not_found")


async def test_what_cannot_be_kept_is_refused_and_nothing_of_it_is_kept(
    api: Api, api_server: ServerThread
) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    assert (await client.post(f"{path}/file", files=parts(**{"a/b": b"1"}))).status_code == 201

    async def refused(
        files: Any, code: str, reason: str, *, pointer: str = "/file", **fields: Any
    ) -> None:
        answer = await client.post(f"{path}/file", files=files, data=fields)
        problem = answer.json()
        assert problem["code"] == code, problem
        assert reason in problem["errors"][0]["reason"]
        assert answer.status_code == 422
        named = code == "validation_failed"
        assert problem["errors"][0]["pointer"] == (
            pointer if named else "/path" if "path" in fields else "/file"
        )

    for name, reason in (
        ("/etc/passwd", "'/etc/passwd' is absolute"),
        ("../x.csv", "'../x.csv' leads out of the notebook's folder"),
        ("C:\\data\\x.csv", "has a backslash"),
        ("C:x.csv", "'C:x.csv' is absolute"),
        ("other.ipynb", "is a notebook"),
        (".nbledger/run.json", "keeps for itself"),
        ("A/B", "differs from"),
        ("a", "'a' is a file, and 'a/b' needs a folder of that name"),
        ("a/b/c", "'a/b' is a file, and 'a/b/c' needs a folder of that name"),
    ):
        await refused(parts(**{name: b"2"}), "invalid_files", reason, replace="true")
        await refused(parts(x=b"2"), "invalid_files", reason, path=name, replace="true")
    twice = [("file", ("x", b"1")), ("file", ("x", b"2"))]
    await refused(twice, "invalid_files", "'x' is there twice")
    await refused(twice, "validation_failed", "one file only", pointer="/path", path="y")
    await refused(
        parts(x=b"1"), "validation_failed", "true or false", pointer="/replace", replace="perhaps"
    )
    for name, values in (
        ("path", ["y", "z"]),
        ("path", ["y", "y"]),
        ("replace", ["true", "false"]),
    ):
        await refused(
            parts(x=b"1"),
            "validation_failed",
            "is given more than once",
            pointer=f"/{name}",
            **{name: values},
        )
    # Every path is told of at once.
    both = await client.post(f"{path}/file", files=parts(**{"../x": b"", "y": b"", "/z": b""}))
    assert [fault["reason"].split()[0] for fault in both.json()["errors"]] == ["'../x'", "'/z'"]
    await refused({"file": (None, b"1")}, "validation_failed", "must be sent with a file name")
    await refused({"other": ("x", b"1")}, "validation_failed", "there are the parts 'other'")
    large = {"files": ("x.csv", bytes(70_000))}
    await refused(
        large, "validation_failed", "a part with the name 'file'", pointer="/files", replace="true"
    )
    assert (await client.post(f"{path}/file", json={})).status_code == 415
    unknown = await client.post(f"{path}/file", files=parts(x=b"1"), data={"pth": "y"})
    assert unknown.json()["warnings"] == ["/pth: unknown member, ignored; did you mean path?"]
    kept = await asyncio.to_thread(kept_files, api, api_server)
    assert {each.rpartition("/")[2] for each in kept} == {sha256(b"1")}
    assert (await client.get(path)).json()["notebookVersion"] == "1.2.0"


async def test_too_much_is_refused_with_what_is_the_most(database_dsn: str, tmp_path: Path) -> None:
    settings = settings_for(
        database_dsn,
        tmp_path / "artifacts",
        max_input_file_mb=1,
        max_input_mb=2,
        max_input_files=3,
        max_notebook_mb=1,
    )
    megabyte = bytes(1 << 20)
    async with running_api(settings) as api:
        client = await api.client()
        path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
        for answer, code, told in (
            (
                await client.post(f"{path}/file", files=parts(**{"a.bin": megabyte + b"x"})),
                "body_too_large",
                "The file 'a.bin' may have at most 1 MB.",
            ),
            (
                await client.put(f"{path}/file/a.bin", content=megabyte + b"x"),
                "body_too_large",
                "The file 'a.bin' may have at most 1 MB.",
            ),
            (
                await client.post(f"{path}/file", files=parts(a=megabyte, b=megabyte, c=b"x")),
                "files_too_large",
                "at most 3 input files with 2,097,152 bytes in all",
            ),
            (
                await client.post(f"{path}/file", files=parts(a=b"", b=b"", c=b"", d=b"")),
                "files_too_large",
                "At most 3 files",
            ),
        ):
            assert (answer.status_code, answer.json()["code"]) == (413, code)
            assert told in answer.json()["detail"]
        assert (await client.post(f"{path}/file", files=parts(a=b"", b=b"", c=b""))).is_success
        full = await client.put(f"{path}/file/d", content=b"")
        assert (full.status_code, full.json()["code"]) == (413, "files_too_large")
        for name in "ab":
            answer = await client.put(f"{path}/file/{name}", content=megabyte)
            assert answer.is_success
        full = await client.put(f"{path}/file/c", content=b"x")
        assert "would have 2,097,153 bytes" in full.json()["detail"]

        # An archive is measured by what is in it, whatever it says of itself.
        for files, told in (
            ({"a.bin": megabyte + b"x"}, "'a.bin' in the archive has more than 1,048,576 bytes"),
            ({"a": megabyte, "b": megabyte, "c": b"x"}, "2,097,153 bytes when they are unpacked"),
            (dict.fromkeys("abcd", b""), "4 files beside its notebook; 3 are the most"),
        ):
            archive = zipped({"n.ipynb": notebook_file(), **files})
            answer = await client.post("/notebook/upload", files={"file": ("n.zip", archive)})
            assert (answer.status_code, answer.json()["code"]) == (413, "files_too_large")
            assert told in answer.json()["detail"]
        large = zipped({"n.ipynb": b" " * (1 << 20) + notebook_file()})
        answer = await client.post("/notebook/upload", files={"file": ("n.zip", large)})
        assert answer.status_code == 413


def notebook_file(*sources: str) -> bytes:
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"c{place}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": source,
        }
        for place, source in enumerate(sources)
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def zipped(files: dict[str, bytes], **options: Any) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, each in files.items():
            archive.writestr(name, each)
    return content.getvalue()


async def uploaded(client: httpx.AsyncClient, archive: bytes) -> httpx.Response:
    return await client.post("/notebook/upload", files={"file": ("project.zip", archive)})


async def test_the_archive_of_a_notebook_with_an_odd_name_can_be_uploaded(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = await client.post(
        "/notebook/upload",
        data={"notebookName": "a\u00adb\u200d/\u3164c"},
        files={"file": ("a\u00adb.ipynb", notebook_file("1"))},
    )
    path = f"/notebook/{made.json()['notebookId']}"
    bundle = await client.get(f"{path}/download", params={"format": "zip"})
    again = await uploaded(client, bundle.content)
    assert again.status_code == 201, again.text
    assert again.json()["notebookName"] == "a-b-c"


async def test_a_notebook_comes_and_goes_with_the_files_beside_it(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    files = {
        "project/": b"",
        "project/data/": b"",
        "project/nothing/": b"",
        "project/data/10:30.csv": INPUT,
        "project/Analysis.ipynb": notebook_file("open('data/input.csv').read()"),
        "project/data/input.csv": INPUT,
        "project/hélpers.py": b"X = 1",
        "project/.env": b"",
        "project/archive.tar.gz": b"\x1f\x8b",
        "project/outputs/old.csv": b"old",
        "project/.ipynb_checkpoints/Analysis-checkpoint.ipynb": b"{}",
        "project/.DS_Store": b"x",
        "__MACOSX/project/._Analysis.ipynb": b"x",
    }
    made = await uploaded(client, zipped(files))
    assert made.status_code == 201, made.text
    notebook = made.json()
    assert notebook["notebookName"] == "Analysis"
    assert notebook["notebookVersion"] == "1.0.0"
    assert notebook["warnings"][:4] == [
        (
            "3 files of systems and tools left out: "
            "'project/.ipynb_checkpoints/Analysis-checkpoint.ipynb', 'project/.DS_Store', "
            "'__MACOSX/project/._Analysis.ipynb'"
        ),
        (
            "1 file in outputs/, which is for what runs of the notebook leave behind, left out: "
            "'project/outputs/old.csv'"
        ),
        "Windows cannot hold files of these names: 'data/10:30.csv' has :",
        "1 empty folder left out: 'project/nothing/'",
    ]
    beside = {
        ".env": b"",
        "archive.tar.gz": b"\x1f\x8b",
        "data/10:30.csv": INPUT,
        "data/input.csv": INPUT,
        "hélpers.py": b"X = 1",
    }
    assert {file["path"]: file["digest"] for file in notebook["files"]} == {
        path: sha256(content) for path, content in beside.items()
    }
    types = {file["path"]: file["contentType"] for file in notebook["files"]}
    assert types["archive.tar.gz"] == "application/gzip"

    path = f"/notebook/{notebook['notebookId']}"
    bundle = await client.get(f"{path}/download", params={"format": "zip"})
    assert bundle.headers["content-disposition"] == 'attachment; filename="Analysis.zip"'
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        assert archive.testzip() is None
        content = {name: archive.read(name) for name in archive.namelist()}
    plain = await client.get(f"{path}/download")
    assert content == {"Analysis.ipynb": plain.content, **beside}

    again = (await uploaded(client, bundle.content)).json()
    assert "left out" not in str(again["warnings"])
    for member in ("notebookName", "kernelType", "notebookVersion"):
        assert again[member] == notebook[member]
    same = ("path", "contentType", "size", "digest")
    for one, other in zip(again["files"], notebook["files"], strict=True):
        assert [one[member] for member in same] == [other[member] for member in same]
    assert [cell["content"] for cell in again["cells"]] == ["open('data/input.csv').read()"]

    # The same as parts of a form, in any order.
    form: list[Any] = [
        ("file", ("project/data/input.csv", INPUT)),
        ("notebookName", (None, "Other")),
        ("file", ("project/Analysis.ipynb", files["project/Analysis.ipynb"])),
    ]
    third = (await client.post("/notebook/upload", files=form)).json()
    assert third["notebookName"] == "Other"
    assert [file["path"] for file in third["files"]] == ["data/input.csv"]
    refused = await client.get(f"{path}/download", params={"format": "tar"})
    assert refused.json()["errors"][0]["pointer"] == "?format"


def with_mode(name: str, mode: int, content: bytes = b"/etc/passwd") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("n.ipynb", notebook_file())
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return packed.getvalue()


async def test_a_program_stays_one_on_its_way_through(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = (await uploaded(client, with_mode("run.sh", 0o100755, b"#!/bin/sh"))).json()
    (file,) = made["files"]
    assert file["executable"] is True
    path = f"/notebook/{made['notebookId']}"
    # What takes its place is a program, too; others are not.
    put = await client.put(f"{path}/file/run.sh", content=b"#!/bin/sh -e")
    assert put.json()["files"][0]["executable"] is True
    assert (await client.put(f"{path}/file/plain", content=b"")).status_code == 201
    plain, program = (await client.get(f"{path}/files")).json()["files"]
    assert ("executable" in plain, program["executable"]) == (False, True)
    bundle = await client.get(f"{path}/download", params={"format": "zip"})
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert (modes["run.sh"] & 0o777, modes["plain"] & 0o777) == (0o755, 0o644)
    again = (await uploaded(client, bundle.content)).json()["files"]
    assert [each.get("executable") for each in again] == [None, True]


async def test_what_an_archive_leaves_out_is_named_up_to_a_bound(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    many = {f"__MACOSX/{number}": b"" for number in range(8)}
    # The folder itself is an entry of some archives.
    archive = zipped({"./": b"", "./n.ipynb": notebook_file(), **many})
    made = await uploaded(client, archive)
    assert made.status_code == 201, made.text
    named = ", ".join(f"'__MACOSX/{number}'" for number in range(5))
    assert made.json()["warnings"][0] == (
        f"8 files of systems and tools left out: {named} and 3 more"
    )
    assert made.json()["files"] == []


def encrypted() -> bytes:
    plain = bytearray(zipped({"n.ipynb": notebook_file(), "a.csv": b"x"}))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = -1
        while (place := plain.find(signature, place + 1)) >= 0:
            plain[place + flags] |= 1
    return bytes(plain)


async def test_archives_that_are_refused_are_told_why(api: Api, api_server: ServerThread) -> None:
    client = await api.client(Role.EDITOR)
    nb = notebook_file()
    good = zipped({"n.ipynb": nb, "a.csv": INPUT * 100})
    damaged = bytearray(good)
    damaged[good.find(b"a.csv") + 8] ^= 0xFF
    many = zipped({"n.ipynb": nb, **{f"{name:04}" * 60: b"" for name in range(20_000)}})
    for archive, reason in (
        (zipped({"a.csv": b""}), "There is no notebook (.ipynb); exactly one is needed"),
        (
            zipped({"a.ipynb": nb, "b/c.ipynb": nb}),
            "There are 2 notebooks ('a.ipynb', 'b/c.ipynb')",
        ),
        (zipped({"n.ipynb": nb, "../a.csv": b""}), "'../a.csv' leads out"),
        (zipped({"n.ipynb": nb, "/a.csv": b""}), "'/a.csv' is absolute"),
        (zipped({"n.ipynb": nb, "a\\b.csv": b""}), "has a backslash"),
        (zipped({"n.ipynb": nb, "C:/b.csv": b""}), "'C:/b.csv' is absolute"),
        (
            zipped({"p/n.ipynb": nb, "a.csv": b""}),
            "'a.csv' lies outside of the notebook's folder 'p'",
        ),
        (zipped({"../n.ipynb": nb}), "'../n.ipynb' leads out"),
        (zipped({"n.ipynb": nb, "a": b"", "A": b""}), "in upper and lower case only"),
        (zipped({"n.ipynb": nb, "a": b"", "a/b": b""}), "'a' is a file, and 'a/b' needs a folder"),
        (zipped({"n.ipynb": nb, ".home/x": b""}), "keeps for itself"),
        (with_mode("link", 0o120777), "'link' is a link"),
        (with_mode("pipe", 0o010644), "'pipe' is no regular file"),
        (encrypted(), "is encrypted"),
        (bytes(damaged), "It is no ZIP archive that can be read"),
        (good[:200], "It is no ZIP archive that can be read"),
        (b"PK\x05\x06" + bytes(18), "There is no notebook"),
        (b"no archive", "It is no ZIP archive that can be read"),
        (many, "It is no ZIP archive that can be read: it has too many entries"),
    ):
        refused = await uploaded(client, archive)
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (422, "invalid_archive"), reason
        assert any(reason in fault["reason"] for fault in problem["errors"]), problem
        assert {fault["pointer"] for fault in problem["errors"]} == {"/file"}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("n.ipynb", nb)
        file.writestr("a.csv", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.csv", b"2")
    refused = await uploaded(client, content.getvalue())
    assert "'a.csv' is there twice" in refused.json()["detail"]
    # A notebook that cannot be read is refused as ever.
    refused = await uploaded(client, zipped({"n.ipynb": b"{}", "a.csv": b""}))
    assert refused.json()["code"] == "validation_failed"
    form = [("file", ("n.zip", good)), ("file", ("a.csv", b""))]
    refused = await client.post("/notebook/upload", files=form)
    assert "a ZIP archive of one is sent alone" in refused.json()["errors"][0]["reason"]
    for other, reason in (
        (b"", "the file is empty"),
        (b"a,b\n1,2\n", "the file is no notebook, for it is not JSON"),
        (gzip.compress(nb), "the file is no notebook, it is packed by gzip"),
        (b"Rar!\x1a\x07\0", "the file is no notebook, it is a RAR archive: send the .ipynb"),
    ):
        refused = await client.post("/notebook/upload", files={"file": ("n", other)})
        assert reason in refused.json()["errors"][0]["reason"]
    form = [("file", ("n.ipynb", nb)), ("file", ("../a.csv", b""))]
    refused = await client.post("/notebook/upload", files=form)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_files")
    assert await asyncio.to_thread(kept_files, api, api_server) == []


async def test_what_is_not_recorded_is_not_kept(
    api: Api, api_server: ServerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    append = EventStore.append

    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("away", outcome_unknown=False)

    archive = zipped({"n.ipynb": notebook_file(), "a.csv": INPUT})
    monkeypatch.setattr(EventStore, "append", away)
    assert (await uploaded(client, archive)).status_code == 503
    assert await asyncio.to_thread(kept_files, api, api_server) == []
    assert (await client.put(f"{path}/file/a.csv", content=INPUT)).status_code == 503
    monkeypatch.setattr(EventStore, "append", append)
    assert (await client.get(path)).json()["files"] == []

    # A notebook that is deleted while its file comes leaves nothing behind.
    keep = ArtifactStore.put_file

    async def deleted_meanwhile(*arguments: Any, **options: Any) -> str:
        assert (await client.delete(path)).status_code == 204
        return await keep(*arguments, **options)

    monkeypatch.setattr(ArtifactStore, "put_file", deleted_meanwhile)
    late = await client.put(f"{path}/file/b.csv", content=b"x")
    assert (late.status_code, late.json()["code"]) == (404, "notebook_not_found")
    assert await asyncio.to_thread(kept_files, api, api_server) == []


@pytest.mark.parametrize(
    ("method", "address"), [("POST", "file"), ("PUT", "file/a.csv"), ("POST", "upload")]
)
async def test_who_stops_sending_is_told_so(
    api: Api, monkeypatch: pytest.MonkeyPatch, method: str, address: str
) -> None:
    client = await api.client(Role.EDITOR)
    notebook_id = (await new_notebook(client, "1"))["notebookId"]
    monkeypatch.setattr(forms, "RECEIVE_SECONDS", 0.3)
    below = "" if address == "upload" else f"/{notebook_id}"
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"{method} {api.base}/notebook{below}/{address} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {client.headers['authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="n.ipynb"\r\n\r\n'
        "a,b\n".encode()
    )
    await writer.drain()
    async with asyncio.timeout(10):
        assert b" 422 " in await reader.readline()
    writer.close()
    assert (await client.get(f"/notebook/{notebook_id}")).json()["files"] == []


async def test_documents_of_before_tell_that_there_are_no_files(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    await catch_up(api.pool, notebook_details.NAME)
    now = (await client.get(path)).content
    migration = Path(database.__file__).with_name("migrations") / "0010_input_files.sql"
    async with acquire(api.pool) as connection:
        await connection.execute(
            "UPDATE notebook_details SET document = replace(document::text, $1, '')::json",
            ',"files":[]',
        )
        assert b'"files"' not in (await client.get(path)).content
        await connection.execute(migration.read_text())
    assert (await client.get(path)).content == now


async def test_of_many_at_once_none_is_lost(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    answers = await asyncio.gather(
        *(client.put(f"{path}/file/{number}", content=b"%d" % number) for number in range(6)),
        *(client.put(f"{path}/file/same", content=b"%d" % number) for number in range(3)),
    )
    assert {answer.status_code for answer in answers} <= {200, 201}
    held = (await client.get(path)).json()
    assert [file["path"] for file in held["files"]] == [*map(str, range(6)), "same"]
    assert held["notebookVersion"] == "1.9.0"
