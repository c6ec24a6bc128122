"""Libraries of a project over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from support.api import Api, new_notebook, running_api, settings_for, unknown_id
from support.event_store import METADATA, new_event
from support.read_models import catch_up
from support.shared_api import ServerThread, api, api_server
from support.wheels import make_wheel

from nbledger_application.commands import change_library
from nbledger_application.reactions import eraser
from nbledger_infrastructure.artifacts.store import ArtifactStore, open_store
from nbledger_infrastructure.packages import uploads
from nbledger_infrastructure.postgres.database import DatabaseUnavailableError
from nbledger_infrastructure.postgres.event_store import EventStore, StoreUnavailableError, Stream
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.read_models import library_details

__all__ = ["api", "api_server"]


async def upload(
    client: httpx.AsyncClient, wheel: Path, *, file_name: str | None = None
) -> httpx.Response:
    content = await asyncio.to_thread(wheel.read_bytes)
    form = {"file": (file_name or wheel.name, content, "application/octet-stream")}
    return await client.post("/library", files=form)


def kept_files(api: Api, api_server: ServerThread) -> list[str]:
    store = open_store(api_server.settings.artifacts.url)
    paths = [entry["path"] for batch in store.list() for entry in batch]
    return [path for path in paths if str(api.project_id) in path]


async def test_the_life_of_a_library(api: Api, api_server: ServerThread, tmp_path: Path) -> None:
    client = await api.client(Role.EDITOR)
    wheel = make_wheel(
        tmp_path, "Our_Rules", "1.2", requires=["tabulate>=0.9"], requires_python=">=3.11"
    )
    made = await upload(client, wheel)
    assert made.status_code == 201, made.text
    library = made.json()
    content = wheel.read_bytes()
    assert {key: library[key] for key in list(library)[1:-2]} == {
        "projectId": str(api.project_id),
        "name": "our-rules",
        "version": "1.2",
        "fileName": "Our_Rules-1.2-py3-none-any.whl",
        "size": len(content),
        "digest": hashlib.sha256(content).hexdigest(),
        "requiresPython": ">=3.11",
        "dependencies": ["tabulate>=0.9"],
    }
    assert library["uploadedBy"] == "tester"
    assert library["uploadedAt"].endswith("Z")
    path = f"/library/{library['libraryId']}"
    assert made.headers["location"] == api.base + path
    assert int(made.headers["nbledger-position"]) > 0

    read = await client.get(path)
    assert read.json() == library
    assert read.headers["etag"] == made.headers["etag"]
    unchanged = await client.get(path, headers={"If-None-Match": read.headers["etag"]})
    assert unchanged.status_code == 304
    downloaded = await client.get(f"{path}/download")
    assert downloaded.content == content
    assert "Our_Rules-1.2-py3-none-any.whl" in downloaded.headers["content-disposition"]
    part = await client.get(f"{path}/download", headers={"Range": "bytes=0-1"})
    assert (part.status_code, part.content) == (206, b"PK")

    # What a projector has written is what the events say.
    await catch_up(api.pool, library_details.NAME)
    assert (await client.get(path)).content == made.content

    stale = await client.delete(path, headers={"If-Match": '"v7"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    deleted = await client.delete(path, headers={"If-Match": read.headers["etag"]})
    assert deleted.status_code == 204
    auditor = await api.client(Role.AUDITOR)
    history = (await auditor.get(f"{path}/history")).json()["events"]
    assert [event["type"] for event in history] == ["library.uploaded.v1", "library.deleted.v1"]
    for method, address in (("GET", path), ("DELETE", path), ("GET", f"{path}/download")):
        gone = await client.request(method, address)
        assert (gone.status_code, gone.json()["code"]) == (404, "library_not_found")

    # The same name and version can come again: what was deleted does not stand in the way.
    again = await upload(client, wheel)
    assert again.status_code == 201
    assert again.json()["libraryId"] != library["libraryId"]
    events = await api.store.read_stream(UUID(library["libraryId"]))
    assert [event.type for event in events] == ["library.uploaded.v1", "library.deleted.v1"]
    artifacts = ArtifactStore(open_store(api_server.settings.artifacts.url))
    await eraser.react(api.store, api.pool, artifacts, events)
    erased = await api.store.read_stream(UUID(library["libraryId"]))
    assert [event.data for event in erased] == [None, None]
    (left,) = await asyncio.to_thread(kept_files, api, api_server)
    assert again.json()["libraryId"] in left
    await catch_up(api.pool, library_details.NAME)
    assert (await client.get(path)).status_code == 404
    assert (await client.get("/library")).json()["totalCount"] == 1
    assert (await upload(client, wheel)).json() == again.json()


async def test_lists_come_newest_first_in_pages(api: Api, tmp_path: Path) -> None:
    client = await api.client(Role.EDITOR)
    made = [
        await upload(client, make_wheel(tmp_path, "rules", version))
        for version in ("1.0", "3.0", "2.0")
    ]
    position = made[-1].headers["nbledger-position"]
    await catch_up(api.pool, library_details.NAME)
    pages = [
        await client.get(
            "/library",
            params={"page": page, "pageSize": 2},
            headers={"Nbledger-Position": position, "Prefer": "wait=5"},
        )
        for page in (1, 2)
    ]
    assert pages[0].headers["preference-applied"] == "wait=5"
    shown = [[each["version"] for each in page.json()["libraries"]] for page in pages]
    assert shown == [["2.0", "3.0"], ["1.0"]]
    assert [page.json()["hasNextPage"] for page in pages] == [True, False]
    assert pages[0].json()["totalCount"] == 3
    newest = made[-1].json()
    listed = pages[0].json()["libraries"][0]
    assert listed == {key: newest[key] for key in listed}
    refused = await client.get("/library", params={"pageSize": 1000})
    assert refused.json()["errors"][0]["pointer"] == "?pageSize"


async def test_a_version_is_one_wheel_for_ever(
    api: Api, api_server: ServerThread, tmp_path: Path
) -> None:
    client = await api.client(Role.EDITOR)
    first = await upload(client, make_wheel(tmp_path, "our_rules", "1.0"))
    again = await upload(client, make_wheel(tmp_path, "our_rules", "1.0"))
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["etag"] == first.headers["etag"]
    # However the version is written.
    for version in ("1.0", "1.0.0"):
        other = make_wheel(tmp_path, "our_rules", version, source="CHANGED = True")
        refused = await upload(client, other)
        assert (refused.status_code, refused.json()["code"]) == (409, "library_exists")
        assert first.json()["libraryId"] in refused.json()["detail"]
    assert (await upload(client, make_wheel(tmp_path, "our_rules", "1.1"))).status_code == 201
    assert len(await asyncio.to_thread(kept_files, api, api_server)) == 2


async def test_of_many_at_once_one_is_kept(
    api: Api, api_server: ServerThread, tmp_path: Path
) -> None:
    client = await api.client(Role.EDITOR)
    same = make_wheel(tmp_path / "same", "tinyone")
    others = [
        make_wheel(tmp_path / str(number), "tinytwo", source=f"N = {number}") for number in range(4)
    ]
    answers = await asyncio.gather(*(upload(client, wheel) for wheel in [same] * 4 + others))
    assert sorted(answer.status_code for answer in answers[:4]) == [200, 200, 200, 201]
    assert len({answer.json()["libraryId"] for answer in answers[:4]}) == 1
    assert sorted(answer.status_code for answer in answers[4:]) == [201, 409, 409, 409]
    assert len(await asyncio.to_thread(kept_files, api, api_server)) == 2


async def test_a_bad_wheel_is_refused_with_the_reason(
    api: Api, api_server: ServerThread, tmp_path: Path
) -> None:
    client = await api.client(Role.EDITOR)
    good = make_wheel(tmp_path, "our_rules")
    text = tmp_path / "text"
    text.write_text("no wheel")
    evil = make_wheel(tmp_path / "evil", "our_rules", besides={"../evil.py": ""})
    for wheel, file_name, reason in (
        (text, good.name, "It is no ZIP archive"),
        (good, "our_rules.zip", "'our_rules.zip' is not named as a wheel is"),
        (good, "our_rules-2.0-py3-none-any.whl", "is not that of our-rules 2.0"),
        (evil, None, "'../evil.py' in it leads out"),
    ):
        refused = await upload(client, wheel, file_name=file_name)
        assert refused.status_code == 422, refused.text
        problem = refused.json()
        assert problem["code"] == "invalid_wheel"
        assert reason in problem["reason"]
        assert problem["errors"] == [{"pointer": "/file", "reason": problem["reason"]}]
        assert "row" not in problem
    assert (await client.post("/library", json={})).status_code == 415
    form: dict[str, Any] = {"file": (None, "x")}
    assert (await client.post("/library", files=form)).json()["code"] == "validation_failed"
    assert await asyncio.to_thread(kept_files, api, api_server) == []


async def test_a_wheel_that_is_too_large_is_refused(database_dsn: str, tmp_path: Path) -> None:
    settings = settings_for(database_dsn, tmp_path / "artifacts", max_library_mb=1)
    async with running_api(settings) as api:
        client = await api.client(Role.EDITOR)
        wheel = make_wheel(tmp_path, "our_rules", source=f"DATA = {'x' * 1_100_000!r}")
        refused = await upload(client, wheel)
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
        assert "1 MB" in refused.json()["detail"]


@pytest.mark.parametrize(("unknown", "left"), [(False, 0), (True, 1)])
async def test_a_wheel_that_was_surely_not_recorded_is_not_kept(
    api: Api,
    api_server: ServerThread,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    unknown: bool,
    left: int,
) -> None:
    client = await api.client(Role.EDITOR)

    async def append(*_: object, **__: object) -> None:
        raise StoreUnavailableError("gone", outcome_unknown=unknown)

    with monkeypatch.context() as patch:
        patch.setattr(EventStore, "append", append)
        assert (await upload(client, make_wheel(tmp_path, "our_rules"))).status_code == 503
    assert len(await asyncio.to_thread(kept_files, api, api_server)) == left


async def test_a_wheel_that_loses_its_place_in_the_queue_is_not_kept(
    api: Api, api_server: ServerThread, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = await api.client(Role.EDITOR)

    def alone(*_: object) -> None:
        raise DatabaseUnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(change_library, "_alone", alone)
        assert (await upload(client, make_wheel(tmp_path, "our_rules"))).status_code == 503
    assert await asyncio.to_thread(kept_files, api, api_server) == []


async def test_who_may_do_what_and_where(api: Api, tmp_path: Path) -> None:
    editor, reader = await api.client(Role.EDITOR), await api.client(Role.READER)
    wheel = make_wheel(tmp_path, "our_rules")
    library = (await upload(editor, wheel)).json()
    path = f"/library/{library['libraryId']}"
    assert (await reader.get(path)).status_code == 200
    assert (await reader.get(f"{path}/download")).status_code == 200
    assert (await upload(reader, wheel)).status_code == 403
    assert (await reader.delete(path)).status_code == 403
    await catch_up(api.pool, library_details.NAME)
    elsewhere = await api.client(Role.ADMIN, base=f"/api/{api.tenant_id}/{unknown_id()}")
    tenant_id = UUID(unknown_id())
    foreign = await api.client(
        Role.ADMIN, tenant_id=tenant_id, base=f"/api/{tenant_id}/{api.project_id}"
    )
    asked = {"customLibraries": ["our_rules"]}
    for stranger in (elsewhere, foreign):
        for method, address in (("GET", path), ("DELETE", path), ("GET", f"{path}/download")):
            refused = await stranger.request(method, address)
            assert (refused.status_code, refused.json()["code"]) == (404, "library_not_found")
        assert (await stranger.get("/library")).json()["totalCount"] == 0
        assert len(told(await new_notebook(stranger, environment=asked))) == 1
        # It is a library of its own there.
        own = await upload(stranger, wheel)
        assert own.status_code == 201
        assert own.json()["libraryId"] != library["libraryId"]
    assert (await editor.get(f"/library/{unknown_id()}")).json()["code"] == "library_not_found"
    assert (await editor.get("/library/nonsense")).json()["code"] == "library_not_found"


def told(answer: dict[str, Any]) -> list[str]:
    return [each for each in answer["warnings"] if each.startswith("customLibraries")]


async def test_an_uploaded_library_is_known_at_once_until_it_is_deleted(
    api: Api, tmp_path: Path
) -> None:
    client = await api.client(Role.EDITOR)
    library = (await upload(client, make_wheel(tmp_path, "our_rules"))).json()
    asked = {"customLibraries": ["Our-Rules", "mindzie_sdk", "ml_models"]}
    made = await new_notebook(client, environment=asked)
    (warning,) = told(made)
    assert warning.startswith("customLibraries: the project has no library 'ml_models'")
    path = f"/notebook/{made['notebookId']}"
    changed = await client.put(
        path, json={"environment": {"customLibraries": ["our.rules", "ml_models", "others"]}}
    )
    (warning,) = told(changed.json())
    assert "'others'" in warning
    # A requirement is no name of a library.
    exact = await new_notebook(client, environment={"customLibraries": ["our_rules==1.0"]})
    assert len(told(exact)) == 1
    await client.delete(f"/library/{library['libraryId']}")
    late = await new_notebook(client, environment={"customLibraries": ["our_rules"]})
    assert len(told(late)) == 1


async def test_the_newest_version_counts_and_of_the_project_alone(api: Api, tmp_path: Path) -> None:
    client = await api.client(Role.EDITOR)
    ids = {}
    for version in ("1.10", "1.9", "2.0.dev1"):
        made = await upload(client, make_wheel(tmp_path, "our_rules", version))
        ids[version] = made.json()["libraryId"]

    async def newest(**place: UUID) -> dict[str, str]:
        where = {"tenant_id": api.tenant_id, "project_id": api.project_id, **place}
        found = await uploads.newest(api.store, names=["Our_Rules", "none"], **where)
        return {name: each.version for name, each in found.items()}

    assert await newest() == {"Our_Rules": "2.0.dev1"}
    await client.delete(f"/library/{ids['2.0.dev1']}")
    assert await newest() == {"Our_Rules": "1.10"}
    assert await newest(project_id=UUID(unknown_id())) == {}
    assert await newest(tenant_id=UUID(unknown_id())) == {}


async def test_libraries_are_found_by_an_index(api: Api) -> None:
    # Among the many events of a project, for which there is an index as well.
    stream_id = uuid4()
    stream = Stream(stream_id, stream_id, api.tenant_id, api.project_id)
    await api.store.append(
        stream, [new_event() for _ in range(500)], expected_version=0, metadata=METADATA
    )
    async with api.pool.acquire() as connection:
        await connection.execute("ANALYZE event")
        await connection.execute("SET enable_seqscan = off")
        plan = await connection.fetch(
            f"EXPLAIN {uploads._HELD}", api.tenant_id, api.project_id, ["our-rules"]
        )
        await connection.execute("RESET enable_seqscan")
    assert "event_library_name" in "\n".join(row[0] for row in plan)


async def test_its_download_is_exact_where_the_name_is_long_or_odd(
    api: Api, tmp_path: Path
) -> None:
    client = await api.client(Role.EDITOR)
    wheel = make_wheel(tmp_path, "r" * 90, "1.0+local.1")
    library = (await upload(client, wheel)).json()
    downloaded = await client.get(f"/library/{library['libraryId']}/download")
    assert f'"{wheel.name}"' in downloaded.headers["content-disposition"]
    assert downloaded.content == wheel.read_bytes()
