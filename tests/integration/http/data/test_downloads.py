"""Downloads by link: whole, in part, not again; and never as a page of the service."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from support.api import Api
from support.browser import needs_browser, rendered
from support.outcomes import Left, Shown, ended
from support.shared_api import ServerThread, api, api_server

from nbledger_http.representations.stored_files import SANDBOX
from nbledger_http.security.links import Link, LinkSigner, signing_key
from nbledger_infrastructure.artifacts.store import CHUNK_BYTES, ArtifactStore, open_store

__all__ = ["api", "api_server"]

SIZE = 2 * CHUNK_BYTES + 12_345
CONTENT = os.urandom(SIZE)
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


@pytest.fixture
def artifacts(api_server: ServerThread) -> ArtifactStore:
    return ArtifactStore(open_store(api_server.settings.artifacts.url))


async def link_to(api: Api, artifacts: ArtifactStore, left: Left) -> str:
    """The link of a file that a run left."""
    outcome = await ended(api, artifacts, [[]], [left])
    results = await outcome.results()
    (told,) = results["reports"] or results["models"] or results["files"]
    url: str = told["downloadUrl"]
    assert url.startswith(f"{api.url}/downloads/")
    return url


async def large(api: Api, artifacts: ArtifactStore) -> str:
    return await link_to(api, artifacts, Left("file", "large.bin", CONTENT))


async def joined(api: Api, artifacts: ArtifactStore) -> str:
    """The link of an output that is kept in three parts."""
    outcome = await ended(api, artifacts, [[Shown([("text/plain", CONTENT)], "stream")]])
    digest = hashlib.sha256(CONTENT).hexdigest()
    await artifacts.delete_all(outcome.scope)
    cuts = [0, 1000, CHUNK_BYTES + 7, SIZE]
    parts = [
        await artifacts.put(outcome.scope, CONTENT[start:stop])
        for start, stop in itertools.pairwise(cuts)
    ]
    await artifacts.put_joined(outcome.scope, digest, parts)
    url: str = (await outcome.results())["outputs"][0]["downloadUrl"]
    return url


@pytest.mark.parametrize("stored", [large, joined])
async def test_any_part_can_be_fetched(
    api: Api, artifacts: ArtifactStore, stored: Callable[[Api, ArtifactStore], Awaitable[str]]
) -> None:
    anybody, url = api.anonymous(), await stored(api, artifacts)
    whole = await anybody.get(url)
    assert (whole.status_code, whole.content == CONTENT) == (200, True)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-length"] == str(SIZE)
    assert "transfer-encoding" not in whole.headers
    etag = whole.headers["etag"]
    assert etag == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    for asked, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        ("Bytes = 999 - 1000", 999, 1001),
        (f"bytes={CHUNK_BYTES - 1}-{CHUNK_BYTES + 9}", CHUNK_BYTES - 1, CHUNK_BYTES + 10),
        (f"bytes=5-{10**17}", 5, SIZE),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("bytes=-500", SIZE - 500, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
    ):
        answer = await anybody.get(url, headers={"Range": asked, "If-Range": etag})
        assert answer.status_code == 206, asked
        assert answer.content == CONTENT[start:stop], asked
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert answer.headers["content-length"] == str(stop - start)
        assert answer.headers["etag"] == etag
    for asked in (f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0"):
        answer = await anybody.get(url, headers={"Range": asked})
        assert answer.status_code == 416, asked
        assert answer.headers["content-range"] == f"bytes */{SIZE}"
        assert answer.json()["code"] == "range_not_satisfiable"


async def test_the_whole_is_sent_where_a_range_does_not_count(
    api: Api, artifacts: ArtifactStore
) -> None:
    anybody, url = api.anonymous(), await large(api, artifacts)
    for headers in (
        {"Range": "bytes=0-9,20-29"},
        {"Range": "bytes=9-0"},
        {"Range": "bytes=-"},
        {"Range": "bytes=a-b"},
        {"Range": "lines=0-9"},
        {"Range": "bytes=0-9", "If-Range": '"another"'},
        {"Range": "bytes=0-9", "If-Range": "Wed, 21 Oct 2015 07:28:00 GMT"},
    ):
        answer = await anybody.get(url, headers=headers)
        assert (answer.status_code, answer.content == CONTENT) == (200, True), headers
        assert "content-range" not in answer.headers


async def test_head_and_what_the_client_has_already(api: Api, artifacts: ArtifactStore) -> None:
    anybody, url = api.anonymous(), await large(api, artifacts)
    head = await anybody.head(url, headers={"Range": "bytes=0-9"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(SIZE)
    assert head.headers["content-disposition"] == 'attachment; filename="large.bin"'
    for method in ("GET", "HEAD"):
        again = await anybody.request(
            method, url, headers={"If-None-Match": head.headers["etag"], "Range": "bytes=0-9"}
        )
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == head.headers["etag"]
    empty = await link_to(api, artifacts, Left("file", "empty", b""))
    answer = await anybody.get(empty)
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await anybody.get(empty, headers={"Range": "bytes=0-"})).status_code == 416


@pytest.mark.parametrize(
    ("content_type", "content", "told"),
    [
        ("text/html", b"<script>alert(1)</script>", "text/html; charset=utf-8"),
        ("image/svg+xml", SVG, "image/svg+xml"),
        ("application/xhtml+xml", b"<html/>", "application/xhtml+xml"),
        ("text/html; charset=utf-7", b"+ADw-script+AD4-", "text/html; charset=utf-8"),
        ("no/such type\r\nX-Evil: 1", b"x", "application/octet-stream"),
    ],
)
async def test_what_a_notebook_has_made_is_always_in_a_sandbox(
    api: Api, artifacts: ArtifactStore, content_type: str, content: bytes, told: str
) -> None:
    anybody = api.anonymous()
    name = '../"; x="\u4e1a\u52a1.html'
    url = await link_to(api, artifacts, Left("report", name, content, content_type))
    for query, kind in (("", "attachment"), ("&inline=0", "attachment"), ("&inline=1", "inline")):
        for headers in ({}, {"Range": "bytes=0-"}):
            answer = await anybody.get(url + query, headers=headers)
            assert answer.content == content
            assert answer.headers["content-type"] == told
            assert answer.headers["content-security-policy"] == SANDBOX
            assert SANDBOX.startswith("sandbox; default-src 'none'; ")
            assert "script" not in SANDBOX
            assert "allow" not in SANDBOX
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "x-evil" not in answer.headers
            assert answer.headers["content-disposition"] == (
                f'{kind}; filename="-; x=-.html"; '
                "filename*=UTF-8''-%3B%20x%3D-%E4%B8%9A%E5%8A%A1.html"
            )
    assert (await anybody.get(f"{url}&inline=maybe")).status_code == 422


async def test_a_link_says_which_methods_it_takes(api: Api, artifacts: ArtifactStore) -> None:
    anybody, url = api.anonymous(), await large(api, artifacts)
    for address in (url, f"{api.url}/health/live", f"{api.url}/schema"):
        for method in ("OPTIONS", "POST", "DELETE"):
            answer = await anybody.request(method, address)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD"), method
            assert answer.json()["code"] == "method_not_allowed"


async def test_links_end(api: Api, artifacts: ArtifactStore) -> None:
    outcome = await ended(api, artifacts, [[]])
    digest = await artifacts.put(outcome.scope, b"content")
    key, anybody = await signing_key(api.pool), api.anonymous()
    link = Link(outcome.scope, digest, "a.txt", "text/plain")
    path = LinkSigner(key, lifetime_seconds=60).path(link)
    assert (await anybody.get(path)).content == b"content"
    old = LinkSigner(key, lifetime_seconds=60, clock=lambda: 1_700_000_000.0).path(link)
    forged = LinkSigner(base64.b64decode("AAAA" * 10), lifetime_seconds=60).path(link)
    for bad in (old, forged):
        for method in ("GET", "HEAD"):
            answer = await anybody.request(method, bad, headers={"Range": "bytes=0-"})
            assert answer.status_code == 403


async def test_many_at_once_and_some_that_leave(api: Api, artifacts: ArtifactStore) -> None:
    url = await large(api, artifacts)
    anybody = api.anonymous()

    async def fetch(number: int) -> bool:
        start = number * 1000
        answer = await anybody.get(url, headers={"Range": f"bytes={start}-"})
        return answer.content == CONTENT[start:]

    async def leave() -> None:
        async with httpx.AsyncClient() as client, client.stream("GET", url) as answer:
            async for _ in answer.aiter_raw(1000):
                break

    async with asyncio.TaskGroup() as group:
        fetches = [group.create_task(fetch(number)) for number in range(10)]
        for _ in range(10):
            group.create_task(leave())
    assert all(task.result() for task in fetches)


HOSTILE = """<!doctype html><html><head><title>Report</title>
<link rel="stylesheet" href="{other}/leak.css"><style>@import "{other}/leak2.css";</style></head>
<body><h1 style="color: red">Findings</h1><p id="told">as written</p>
<img src="{other}/leak.png"><iframe src="{other}/leak.html"></iframe>
<script>document.getElementById("told").textContent = "script ran";</script>
<script src="{other}/leak.js"></script>
<img src="data:," onerror="document.getElementById('told').textContent = 'handler ran'">
</body></html>"""


@contextlib.asynccontextmanager
async def other_site() -> AsyncIterator[tuple[str, list[str]]]:
    """A server that answers /page with the hostile page, and what it was asked for."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked.append(head.split()[1])
            body = HOSTILE.format(other=url).encode() if asked[-1] == "/page" else b""
            told = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}"
            writer.write(f"{told}\r\nConnection: close\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield url, asked


@needs_browser
async def test_a_browser_shows_a_page_and_runs_and_loads_nothing(
    api: Api, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    async with other_site() as (other, asked):
        page = HOSTILE.format(other=other).encode()
        url = await link_to(api, artifacts, Left("report", "r.html", page, "text/html"))
        shown = await rendered(tmp_path / "one", f"{url}&inline=1")
        assert "Findings" in shown
        assert ">as written<" in shown
        assert asked == []
        # The very page does all of it where nothing holds it back.
        unguarded = await rendered(tmp_path / "two", f"{other}/page")
        assert ">as written<" not in unguarded
        assert {"/page", "/leak.png", "/leak.css", "/leak.js"} <= set(asked)
