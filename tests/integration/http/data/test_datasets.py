"""Datasets over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import io
import resource
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import polars as pl
import pytest
from support.api import Api, new_notebook, unknown_id
from support.read_models import catch_up
from support.shared_api import ServerThread, api, api_server

from nbledger_application import repository
from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_domain.execution import Representation
from nbledger_domain.vocabulary import media_types
from nbledger_http.requests import forms
from nbledger_infrastructure import aggregates, datasets
from nbledger_infrastructure.artifacts.store import open_store
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, StoreUnavailableError
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.read_models import dataset_details

__all__ = ["api", "api_server"]

LOG = (
    "case_id,activity,timestamp,cost,approved\n"
    "C1,Submit,2024-01-01T08:00:00,1.5,true\n"
    'C1,"Review, then approve",2024-01-01T09:30:00,,false\n'
    "C2,Submit,2024-01-02T08:00:00,20,true\n"
)
COLUMNS = [
    {"name": "case_id", "type": "string"},
    {"name": "activity", "type": "string"},
    {"name": "timestamp", "type": "datetime"},
    {"name": "cost", "type": "number"},
    {"name": "approved", "type": "boolean"},
]


async def upload(
    client: httpx.AsyncClient,
    content: str | bytes = LOG,
    *,
    path: str = "/dataset/csv",
    method: str = "POST",
    file_name: str = "journeys.csv",
    headers: dict[str, str] | None = None,
    **fields: str,
) -> httpx.Response:
    data = content.encode() if isinstance(content, str) else content
    return await client.request(
        method, path, files={"file": (file_name, data, "text/csv")}, data=fields, headers=headers
    )


async def test_a_packed_table_with_a_nameless_column_is_read(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    packed = gzip.compress(b",a,b\n0,1,x\n1,2,y\n")
    made = await upload(client, packed, file_name="orders.csv.gz")
    assert made.status_code == 201, made.text
    dataset = made.json()
    assert dataset["datasetName"] == "orders"
    assert dataset["parsing"] == {"encoding": "utf-8", "delimiter": ",", "compression": "gzip"}
    assert [column["name"] for column in dataset["columns"]] == ["Unnamed: 0", "a", "b"]
    assert dataset["warnings"] == ["The header names no column 1; it is called 'Unnamed: 0'."]
    read = await client.get(f"/dataset/{dataset['datasetId']}/download")
    assert read.text == "Unnamed: 0,a,b\n0,1,x\n1,2,y\n"
    for content, reason in ((packed[:-9], "cut off"), (b"PK\3\4" + bytes(60), "workbook")):
        refused = await upload(client, content)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_csv")
        assert reason in refused.json()["detail"]


async def test_the_life_of_a_dataset(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = await upload(client, datasetName="Journeys")
    assert made.status_code == 201, made.text
    dataset = made.json()
    assert dataset["parsing"] == {"encoding": "utf-8", "delimiter": ","}
    assert (dataset["datasetName"], dataset["version"], dataset["rowCount"]) == ("Journeys", 1, 3)
    assert dataset["columns"] == COLUMNS
    path = f"/dataset/{dataset['datasetId']}"
    assert made.headers["location"] == api.base + path

    read = await client.get(path)
    assert read.headers["etag"] == made.headers["etag"]
    assert dataset.pop("warnings") == []
    assert read.json() == {key: value for key, value in dataset.items() if key != "parsing"}
    assert read.json()["versions"][0]["lineage"] == {"kind": "upload", "fileName": "journeys.csv"}
    unchanged = await client.get(path, headers={"If-None-Match": read.headers["etag"]})
    assert unchanged.status_code == 304

    second = await upload(
        client,
        "a;b\n1;x\n",
        path=f"{path}/csv",
        method="PUT",
        headers={"If-Match": read.headers["etag"]},
    )
    assert second.status_code == 200, second.text
    assert [version["version"] for version in second.json()["versions"]] == [2, 1]
    assert second.json()["columns"] == [
        {"name": "a", "type": "integer"},
        {"name": "b", "type": "string"},
    ]
    assert second.json()["parsing"]["delimiter"] == ";"
    assert [version.get("columns") for version in second.json()["versions"]] == [None, COLUMNS]
    late = await upload(
        client, path=f"{path}/csv", method="PUT", headers={"If-Match": read.headers["etag"]}
    )
    assert late.status_code == 412

    # What a projector has written is what the events say.
    await catch_up(api.pool, dataset_details.NAME)
    assert (await client.get(path)).content == (second.content.partition(b',"parsing"')[0] + b"}")
    listed = (await client.get("/dataset")).json()
    assert listed["totalCount"] == 1
    assert listed["datasets"][0]["datasetId"] == dataset["datasetId"]
    assert listed["datasets"][0]["columnCount"] == 2

    stale = await client.delete(path, headers={"If-Match": read.headers["etag"]})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    deleted = await client.delete(path, headers={"If-Match": second.headers["etag"]})
    assert deleted.status_code == 204
    for method, address in (
        ("GET", path),
        ("DELETE", path),
        ("GET", f"{path}/download"),
    ):
        gone = await client.request(method, address)
        assert (gone.status_code, gone.json()["code"]) == (404, "dataset_not_found")
    assert (await upload(client, path=f"{path}/csv", method="PUT")).status_code == 404
    await catch_up(api.pool, dataset_details.NAME)
    assert (await client.get("/dataset")).json()["totalCount"] == 0


async def test_downloads_give_back_what_was_uploaded(api: Api) -> None:
    client = await api.client(Role.ADMIN)
    dataset = (await upload(client)).json()
    path = f"/dataset/{dataset['datasetId']}/download"
    uploaded = pl.read_csv(LOG.encode(), try_parse_dates=True)

    as_csv = await client.get(path)
    assert as_csv.headers["content-type"].startswith("text/csv")
    assert as_csv.headers["content-disposition"].startswith("attachment")
    assert pl.read_csv(as_csv.content, try_parse_dates=True).equals(uploaded)

    as_parquet = await client.get(path, params={"format": "parquet"})
    assert pl.read_parquet(io.BytesIO(as_parquet.content)).equals(uploaded)
    assert len(as_parquet.content) == dataset["versions"][0]["size"]
    part = await client.get(path, params={"format": "parquet"}, headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"PAR1")

    await upload(client, "a\n1\n", path=f"/dataset/{dataset['datasetId']}/csv", method="PUT")
    assert (await client.get(path)).text == "a\n1\n"
    assert (await client.get(path, params={"version": 1})).content == as_csv.content
    absent = await client.get(path, params={"version": 3})
    assert (absent.status_code, absent.json()["code"]) == (404, "artifact_not_found")
    assert absent.json()["detail"] == "The dataset has no version 3; its newest is 2."
    unknown = await client.get(f"/dataset/{unknown_id()}/download", params={"version": 3})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "dataset_not_found")
    refused = await client.get(path, params={"format": "xlsx"})
    assert refused.json()["errors"][0]["pointer"] == "?format"


@pytest.mark.parametrize(
    ("content", "row", "column", "reason"),
    [
        ("a,b,c\n1,2,3\n4,5\n", 3, "c", "has 2 fields, the header has 3"),
        ("a,b\n1,2\n3,4,5\n", 3, "3", "has 3 fields, the header has 2"),
        ('a,b\n"x\ny",1\n2,"z\n', 3, "b", "a quotation mark is not closed"),
        ('a,b\n1,"x"y\n', 2, "b", "a quoted value goes on after its closing quotation mark"),
        ('a,b\n1,5" pipe\n', 2, "b", "a quotation mark inside a value that is not quoted"),
        ('a,b\n1,2\n5" x,6" y\n', 3, "a", "a quotation mark inside a value that is not quoted"),
        ('a,b" c,d" e\n1,2,3\n', 1, 'b" c', "a quotation mark inside a value that is not quoted"),
        ("a,a\n1,2\n", 1, "a", "the header names this column twice"),
        ("", None, None, "the file is empty"),
        ("a,b\n1,\0\n", 2, None, "a NUL byte: this is not text"),
    ],
)
async def test_a_bad_file_is_refused_with_its_place(
    api: Api, content: str, row: int | None, column: str | None, reason: str
) -> None:
    client = await api.client(Role.EDITOR)
    refused = await upload(client, content)
    assert refused.status_code == 422
    problem = refused.json()
    assert problem["code"] == "invalid_csv"
    assert (problem["row"], problem["column"], problem["reason"]) == (row, column, reason)
    assert problem["errors"][0]["pointer"] == "/file"


async def test_fields_that_are_not_known_are_told(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = await upload(client, datasetname="Journeys", colour="red")
    assert (made.status_code, made.json()["datasetName"]) == (201, "journeys")
    assert made.json()["warnings"] == [
        "/datasetname: unknown member, ignored; did you mean datasetName?",
        "/colour: unknown member, ignored",
    ]
    path = f"/dataset/{made.json()['datasetId']}/csv"
    changed = await upload(client, path=path, method="PUT", datasetName="Another")
    assert (changed.status_code, changed.json()["datasetName"]) == (200, "journeys")
    assert changed.json()["warnings"] == ["/datasetName: unknown member, ignored"]


async def test_requests_that_carry_no_file_are_refused(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    assert (await client.post("/dataset/csv", json={})).status_code == 415
    form: dict[str, Any] = {"file": (None, "a,b\n")}
    assert (await client.post("/dataset/csv", files=form)).status_code == 422
    cut = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\na,b'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    refused = await client.post("/dataset/csv", content=cut, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert (await upload(client, datasetName="n" * 201)).status_code == 422
    assert (await upload(client, file_name="x/log.csv")).json()["datasetName"] == "log"


class Sender:
    """A connection on which an upload has begun."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, api: Api, client: httpx.AsyncClient) -> Sender:
        url = httpx.URL(api.url)
        sender = cls(*await asyncio.open_connection(url.host, url.port))
        sender.writer.write(
            f"POST {api.base}/dataset/csv HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: {client.headers['authorization']}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
            "a,b\n".encode()
        )
        await sender.writer.drain()
        return sender


async def test_who_stops_sending_is_told_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await api.client(Role.EDITOR)
    monkeypatch.setattr(forms, "RECEIVE_SECONDS", 0.3)
    sender = await Sender.open(api, client)
    async with asyncio.timeout(10):
        assert b" 422 " in await sender.reader.readline()
    sender.writer.close()


async def test_who_sends_too_slowly_is_told_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await api.client(Role.EDITOR)
    monkeypatch.setattr(forms, "RECEIVE_SECONDS", 0.5)
    sender = await Sender.open(api, client)
    answer = asyncio.create_task(sender.reader.readline())
    async with asyncio.timeout(10):
        while not answer.done():
            sender.writer.write(b"1")
            await asyncio.wait({answer}, timeout=0.1)
    assert b" 422 " in await answer
    sender.writer.close()


async def test_uploads_that_stall_take_nobodys_turn(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are turns would stop every other request."""
    client = await api.client(Role.EDITOR)
    begun: list[Path] = []
    received = forms.receive_files

    async def receive(request: Any, folder: Path, bounds: Any) -> Any:
        begun.append(folder)
        given.append(request.scope["turn"]._semaphore)
        return await received(request, folder, bounds)

    given: list[object] = []
    monkeypatch.setattr(forms, "receive_files", receive)
    assert (await upload(client)).status_code == 201
    assert given == [None]
    assert not begun[0].exists()


async def test_a_full_disk_is_told_and_nothing_is_lost_silently(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    content = b"a,b\n" + b"1,2\n" * 600_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        refused = await upload(client, content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert (await upload(client, content)).json()["rowCount"] == 600_000


@pytest.mark.parametrize(("unknown", "left"), [(False, 0), (True, 1)])
async def test_a_table_that_was_surely_not_recorded_is_not_kept(
    api: Api,
    api_server: ServerThread,
    monkeypatch: pytest.MonkeyPatch,
    *,
    unknown: bool,
    left: int,
) -> None:
    client = await api.client(Role.EDITOR)

    async def append(*_: object, **__: object) -> None:
        raise StoreUnavailableError("gone", outcome_unknown=unknown)

    with monkeypatch.context() as patch:
        patch.setattr(EventStore, "append", append)
        assert (await upload(client)).status_code == 503
    store = open_store(api_server.settings.artifacts.url)
    kept = [entry["path"] for batch in store.list() for entry in batch]
    assert len([path for path in kept if str(api.project_id) in path]) == left


async def test_its_history_is_for_auditors_and_outlives_it(api: Api) -> None:
    editor, auditor = await api.client(Role.EDITOR), await api.client(Role.AUDITOR)
    dataset_id = (await upload(editor)).json()["datasetId"]
    path = f"/dataset/{dataset_id}"
    await upload(editor, path=f"{path}/csv", method="PUT")
    assert (await editor.get(f"{path}/history")).status_code == 403
    page = (await auditor.get(f"{path}/history?limit=2")).json()
    assert [event["type"] for event in page["events"]] == [
        "dataset.created.v1",
        "dataset.version-added.v1",
    ]
    assert page["events"][1]["data"]["source"] == {"kind": "upload", "fileName": "journeys.csv"}
    await editor.delete(path)
    await api.store.erase_subject(UUID(dataset_id))
    rest = (await auditor.get(f"{path}/history?after={page['next']}")).json()
    assert [event["type"] for event in rest["events"]] == [
        "dataset.version-added.v1",
        "dataset.deleted.v1",
    ]
    assert rest["events"][0]["data"] is None
    assert rest["next"] is None
    for other in (f"/notebook/{dataset_id}", f"/library/{dataset_id}", f"/dataset/{unknown_id()}"):
        assert (await auditor.get(f"{other}/history")).status_code == 404, other


async def test_who_may_do_what(api: Api) -> None:
    editor, reader = await api.client(Role.EDITOR), await api.client(Role.READER)
    path = f"/dataset/{(await upload(editor)).json()['datasetId']}"
    assert (await reader.get(path)).status_code == 200
    assert (await reader.get(f"{path}/download")).status_code == 200
    assert (await upload(reader)).status_code == 403
    assert (await upload(reader, path=f"{path}/csv", method="PUT")).status_code == 403
    assert (await reader.delete(path)).status_code == 403
    stranger = await api.client(Role.ADMIN, base=f"/api/{api.tenant_id}/{unknown_id()}")
    assert (await stranger.get(path)).status_code == 404
    assert (await upload(stranger, path=f"{path}/csv", method="PUT")).status_code == 404
    assert (await stranger.delete(path)).status_code == 404
    assert (await editor.get(f"/dataset/{unknown_id()}")).json()["code"] == "dataset_not_found"
    assert (await editor.get("/dataset/nonsense")).json()["code"] == "dataset_not_found"


async def test_a_binding_that_is_not_held_is_warned_of(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    held, unknown = (await upload(client)).json()["datasetId"], unknown_id()

    def told(warnings: list[str]) -> list[str]:
        return [warning for warning in warnings if warning.startswith("datasetBinding")]

    bound = await new_notebook(client, "1", integration={"datasetBinding": held})
    assert told(bound["warnings"]) == []
    path = f"/notebook/{bound['notebookId']}"
    for binding in (unknown, "dataset-guid"):
        other = await new_notebook(client, "1", integration={"datasetBinding": binding})
        assert other["integration"]["datasetBinding"] == binding
        assert len(told(other["warnings"])) == 1
        changed = await client.put(path, json={"integration": {"datasetBinding": binding}})
        assert len(told(changed.json()["warnings"])) == 1
    back = await client.put(path, json={"integration": {"datasetBinding": held}})
    assert told(back.json()["warnings"]) == []
    await client.delete(f"/dataset/{held}")
    late = await client.put(path, json={"integration": {"datasetBinding": held}})
    assert len(told(late.json()["warnings"])) == 1


async def test_a_version_that_a_run_made_tells_its_lineage(api: Api) -> None:
    """As a worker appends it, and as a later run finds it."""
    client = await api.client(Role.ADMIN)
    made = (await upload(client)).json()
    loaded = await aggregates.load(api.store, Dataset, (dataset_id := UUID(made["datasetId"])))
    assert loaded is not None
    source = Source(
        kind="execution",
        execution_id=UUID(unknown_id()),
        notebook_id=UUID(unknown_id()),
        notebook_version="1.3.2",
        from_dataset_id=dataset_id,
        from_version=1,
    )
    loaded.aggregate.add_version(
        content=Representation(media_types.PARQUET, "5f" * 32, 10),
        rows=3,
        columns=[Column("case_id", "string"), Column("score", "number")],
        source=source,
        at=now(),
    )
    metadata = Metadata(actor="worker:w1", on_behalf_of="user123")
    await repository.save(api.store, loaded.aggregate, loaded.stream, metadata)

    versions = (await client.get(f"/dataset/{dataset_id}")).json()["versions"]
    assert versions[0]["lineage"] == {
        "kind": "execution",
        "executionId": str(source.execution_id),
        "notebookId": str(source.notebook_id),
        "notebookVersion": "1.3.2",
        "sourceDatasetId": str(dataset_id),
        "sourceVersion": 1,
    }
    assert versions[0]["createdBy"] == "user123"
    newest = await datasets.head(api.store, api.tenant_id, api.project_id, dataset_id)
    assert newest is not None
    assert (newest.version, newest.rows, newest.columns[1].name) == (2, 3, "score")
    first = await datasets.head(api.store, api.tenant_id, api.project_id, dataset_id, version=1)
    assert first is not None
    assert first.rows == 3
    assert await datasets.head(api.store, api.tenant_id, UUID(unknown_id()), dataset_id) is None
