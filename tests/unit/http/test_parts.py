"""Parts of the HTTP layer that need no server."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbledger_domain.cells import Cell
from nbledger_domain.errors import Fault, InvalidArchiveError, InvalidInputError
from nbledger_domain.execution import Representation
from nbledger_domain.input_files import FileLimits
from nbledger_http.replies import archives
from nbledger_http.replies.file_names import (
    content_disposition,
    output_file_name,
    safe_file_name,
    unique_names,
)
from nbledger_http.replies.responses import with_members
from nbledger_http.representations.conditional import precondition
from nbledger_http.requests import bodies, json_bodies
from nbledger_http.requests.cells import NewCell, new_cells
from nbledger_http.requests.declared import FaultReport
from nbledger_http.security.links import Link, LinkSigner
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_infrastructure.notebooks.bundles import ArchiveLimits, Bundle, read_archive
from nbledger_infrastructure.settings import Executions


def query_of(path: str) -> dict[str, str]:
    from urllib.parse import parse_qsl

    return dict(parse_qsl(path.partition("?")[2]))


def parts_of(path: str) -> dict[str, str]:
    names = ("tenant_id", "project_id", "notebook_id", "digest", "file_name")
    return dict(zip(names, path.partition("?")[0].split("/")[2:], strict=True))


def test_links_expire_and_are_the_same_for_a_while() -> None:
    time = 1_000_000.0
    signer = LinkSigner(b"key", lifetime_seconds=3600, clock=lambda: time)
    link = Link(Scope(uuid4(), uuid4(), uuid4()), "ab" * 32, "a.txt", "text/plain")
    path = signer.path(link)
    assert signer.check(parts_of(path), query_of(path)) == link
    generation = signer.generation()
    time += 3600
    assert signer.check(parts_of(path), query_of(path)) == link, "it works for a lifetime"
    assert signer.generation() != generation
    time += 151
    assert signer.check(parts_of(path), query_of(path)) is None
    other = LinkSigner(b"other", lifetime_seconds=3600, clock=lambda: time)
    fresh = signer.path(link)
    assert other.check(parts_of(fresh), query_of(fresh)) is None


@given(st.text(), st.text(), st.text())
def test_no_made_up_link_is_taken_and_none_breaks_the_check(a: str, b: str, c: str) -> None:
    signer = LinkSigner(b"key", lifetime_seconds=1)
    path = {"tenant_id": str(uuid4()), "project_id": str(uuid4()), "notebook_id": str(uuid4())}
    query = {"contentType": b, "expires": c, "signature": a}
    assert signer.check({**path, "digest": a, "file_name": b}, query) is None
    assert signer.check({}, query) is None


async def test_archives_can_be_read_and_hold_the_first_of_two_names() -> None:
    async def once(content: bytes) -> AsyncGenerator[bytes, None]:
        yield content

    async def entries() -> AsyncGenerator[archives.Entry, None]:
        yield archives.Entry("a/b.txt", once(b"first" * 1000))
        yield archives.Entry("a/b.txt", once(b"second"))
        yield archives.Entry("c", once(b""))

    at = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)
    content = b"".join([piece async for piece in archives.zip_stream(entries(), at=at)])
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    assert archive.namelist() == ["a/b.txt", "c"]
    assert archive.read("a/b.txt") == b"first" * 1000


@pytest.mark.parametrize(
    ("header", "holds"),
    [
        (None, True),
        ("*", True),
        ('"v3"', True),
        ('"v3.p99"', True),
        ('"v2", "v3.p1"', True),
        ('W/"v3"', False),
        ('"v4"', False),
        ('"3"', False),
        ("v3", False),
        ("", False),
    ],
)
def test_preconditions(header: str | None, holds: bool) -> None:  # noqa: FBT001
    demanded = precondition(header)
    assert (demanded.accepted is None or demanded.accepted.name_version(3)) is holds


HALF = "contains half of a surrogate pair, which is no character"


@pytest.mark.parametrize(
    ("body", "pointer", "reason"),
    [
        (rb'{"a": {"b": ["ok", "\ud800"]}}', "/a/b/1", HALF),
        (rb'{"a": "\uDC00x"}', "/a", HALF),
        (rb'{"a": {"\ud83d": 1}}', "/a", f"has a member whose name {HALF}"),
        (b'{"a": "\xed\xa0\x80"}', "/a", HALF),
        (rb'{"a": "\ud800"', "", "is not JSON"),
        (
            b'{"parameters": {"x": NaN}}',
            "/parameters/x",
            "is NaN, which is no JSON (line 1, column 22, byte 21); send null or text",
        ),
        (
            '{"é": "NaN",\n "b": [1, -Infinity]}'.encode(),
            "/b/1",
            "is -Infinity, which is no JSON (line 2, column 11, byte 24)",
        ),
        (b'{"a/b": 1e999}', "/a~1b", "is a number larger than any double"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "/a", "is a number of more than 4,000 digits"),
        (b'{"a": NaN, "a": 1}', "", "is not JSON: NaN is no JSON, at line 1, column 7 (byte 6)"),
        (b'{"a":\n True}', "", "is not JSON: True is no JSON, at line 2, column 2 (byte 7)"),
        (b'{"a": 1,}', "", "is not JSON: trailing comma in object at line 1, column 9 (byte 8)"),
        (rb'{"a": "\ud83d\ude00", "b"', "", "is not JSON: it ends too early"),
        (b'{"a": "\xff"}', "", "is not UTF-8: byte 7 cannot be read"),
        (b'{"a": [{"b/c": 1, "b/c": 1}]}', "/a/0/b~1c", "is given more than once"),
        (rb'{"a": 1, "\u0061": 2}', "/a", "is given more than once"),
        (b" ", "", "is empty"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_where_and_why(
    body: bytes, pointer: str, reason: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        json_bodies.decode_object(body)
    (fault,) = refused.value.faults
    assert fault.pointer == pointer
    assert fault.reason.startswith(reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_decodes_can_be_stored_and_comes_back(value: dict[str, object]) -> None:
    try:
        body = msgspec.json.encode(value)
    except UnicodeEncodeError:
        return  # half of a surrogate pair, which no JSON text in UTF-8 can hold
    try:
        found = json_bodies.decode_object(body)
    except InvalidInputError:
        assert "\\u0000" in body.decode()
    else:
        assert found == msgspec.json.decode(body)
        assert "\\u0000" not in body.decode().replace("\\\\", "")


@given(st.lists(st.sampled_from([None, "cell-002", "x", "cell-001"]), max_size=6))
def test_new_cells_never_share_an_id(ids: list[str | None]) -> None:
    report = FaultReport()
    entries = [NewCell(cell_type="code", content="", cell_id=cell_id) for cell_id in ids]
    before = [Cell(cell_id="cell-001", cell_type="raw", source="")]
    cells = new_cells(entries, before=before, report=report)
    given_ids = [cell_id for cell_id in ids if cell_id is not None]
    clash = "cell-001" in given_ids or len(set(given_ids)) < len(given_ids)
    assert bool(report.faults) is clash
    if not clash:
        found = [cell.cell_id for cell in [*before, *cells]]
        assert len(set(found)) == len(ids) + 1


UNSEEN = (
    "\u00ad\ue000\u3164\u2800\u115f\u0378\U000e0001\u200d\u200b\x00\x7f\u2028\ud800\ufe0f"
    "\U000e0100\u0600\u180b"
)
LIMITS = ArchiveLimits(
    notebook_bytes=100, file_bytes=100, files=FileLimits(count=10, total_bytes=100)
)


def unpacked(files: dict[str, bytes]) -> Bundle:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, each in files.items():
            archive.writestr(name, each)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.zip"
        path.write_bytes(content.getvalue())
        return read_archive(path, Path(folder), LIMITS)


@given(
    st.text(
        st.sampled_from([*UNSEEN, *"\u200c.-/ :é\u0301क👩❤\u20e31*葛\u0661\xa0"]) | st.characters(),
        max_size=200,
    )
)
@example("क\u200d" * 100)
@example("n" * 199 + "\ufb2c")
@example("\xa0")
@example("*\ufe0f\u20e3")
@example("n" * 239 + "1\ufe0f\u20e3")
@example("n" * 238 + "\u0600\u0661.a")
@example("n \u2003.\xa0")
def test_the_bundle_of_a_notebook_of_whatever_name_uploads_again(name: str) -> None:
    file_name = f"{safe_file_name(name, default='notebook')}.ipynb"
    again = unpacked({file_name: b"{}", "data/input.csv": b"1"})
    assert again.file_name == file_name
    assert [file.path for file in again.files] == ["data/input.csv"]
    assert again.warnings == []
    creation, _ = bodies.upload(
        {}, file_name=again.file_name, kernel_types=["python3"], limits=Executions()
    )
    assert file_name.startswith(creation.name)


@pytest.mark.parametrize("folder", ["a\u00adb", "\u3164", "x/a\u200db", "e\u0301\u00ad"])
def test_a_wrapping_folder_may_have_what_cannot_be_seen_in_its_name(folder: str) -> None:
    files = {f"{folder}/n.ipynb": b"{}", f"{folder}/data/input.csv": b"1"}
    found = unpacked(files)
    assert (found.file_name, [file.path for file in found.files]) == ("n.ipynb", ["data/input.csv"])

    for path, reason in (
        (f"{folder}/in\u00adput.csv", "U+00AD (SOFT HYPHEN), which cannot be seen"),
        ("other\u00ad/input.csv", "U+00AD (SOFT HYPHEN), which cannot be seen"),
        ("input.csv", "lies outside of the notebook's folder"),
    ):
        with pytest.raises(InvalidArchiveError) as refused:
            unpacked({**files, path: b"2"})
        (fault,) = refused.value.faults
        assert reason in fault.reason


def test_a_folder_with_content_is_refused_and_one_without_is_left_out() -> None:
    files = {"n.ipynb": b"{}", "d/": b"content", "__MACOSX/": b"content"}
    with pytest.raises(InvalidArchiveError) as refused:
        unpacked(files)
    (fault,) = refused.value.faults
    assert fault == Fault("/file", "'d/' has the name of a folder, and content as a file has")
    # Whether anything lies in it or not.
    with pytest.raises(InvalidArchiveError):
        unpacked({**files, "d/a.csv": b"1"})
    assert unpacked({**files, "d/": b""}).warnings == ["1 empty folder left out: 'd/'"]


def test_names_of_files_are_safe() -> None:
    for name, expected in (
        ("../../etc/päss wd\r\n", "etc-päss wd-"),
        (" a b ", "a b"),
        ("a?b", "a-b"),
        (".h", ".h"),
        ("..", "x"),
        ("/", "x"),
        ("", "x"),
        ("Q3. ", "Q3"),
        ("nul.csv", "nul-.csv"),
        ("null.csv", "null.csv"),
        ("业务 ①.csv", "业务 ①.csv"),
        ("cod\u202excel.exe", "cod-xcel.exe"),
        ("e\u0301.csv", "é.csv"),
        ("n" * 200 + ".tar.gz", "n" * 200 + ".tar.gz"),
        ("é" * 200 + ".tar.gz", "é" * 116 + ".tar.gz"),
        ("n" * 300, "n" * 240),
        # What cannot be seen where it stands, and what can.
        *((f"a{each}b", "a-b") for each in UNSEEN),
        ("a\u200d", "a-"),
        ("\u3164\u2800", "x"),
        ("क\u094d\u200dष", "क\u094d\u200dष"),
        ("👩\u200d💻", "👩\u200d💻"),
        ("❤\ufe0f*\ufe0f\u20e3", "❤\ufe0f-\u20e3"),
        ("n" * 239 + "1\ufe0f\u20e3", "n" * 239 + "1"),
        ("क\u200d" * 100, "क\u200d" * 39 + "क"),
    ):
        assert safe_file_name(name, default="x") == expected
    form = Representation("text/html", "", 0)
    assert output_file_name("cell-002", 1, "bb0e8400", form) == "cell-002-bb0e8400.html"
    assert output_file_name("c", 2, "b", Representation("x/y", "", 0)) == "c-2-b.bin"


@given(st.text() | st.text(alphabet='aé./\\ "\ud800\u202e', max_size=300))
def test_a_safe_name_is_one_for_every_system(name: str) -> None:
    safe = safe_file_name(name)
    assert safe == safe_file_name(safe)
    assert 0 < len(safe.encode()) <= 240
    assert not set(safe) & set('/\\:*?"<>|\r\n\0')
    assert safe.strip(" ").rstrip(".") == safe
    header = content_disposition(safe)
    assert header.isascii()
    assert header.count('"') == 2


def test_a_name_is_never_given_twice_and_goes_to_whom_it_belongs() -> None:
    taken = {"manifest.json"}
    wanted = [("a-b", False), ("a-b", True), ("A-B", True), (".h", True), (".h", False)]
    assert unique_names(wanted, taken) == ["a-b-3", "a-b", "A-B-2", ".h", ".h-2"]
    more = [("d/a.tar.gz", True), ("d/a.tar.gz", True), ("manifest.json", True)]
    assert unique_names(more, taken) == ["d/a.tar.gz", "d/a-2.tar.gz", "manifest-2.json"]


def test_no_name_is_that_of_a_folder_of_another() -> None:
    # "a?" and "b?/x" once they are cleaned, beside "a-/x" and "b-".
    wanted = [("f/a-", False), ("f/a-/x", True), ("f/b-/x", False), ("f/B-", True)]
    assert unique_names(wanted, set()) == ["f/a--2", "f/a-/x", "f/b--x", "f/B-"]


def test_a_name_that_is_not_ascii_has_another_beside_it() -> None:
    assert content_disposition("a b.csv") == 'attachment; filename="a b.csv"'
    assert content_disposition("业.csv", inline=True) == (
        "inline; filename=\"file.csv\"; filename*=UTF-8''%E4%B8%9A.csv"
    )


def test_members_are_added_at_the_end() -> None:
    assert with_members(b'{"a":1}', b=[2]) == b'{"a":1,"b":[2]}'
    assert with_members(b"{}", b=2) == b'{"b":2}'
