"""Input files: their paths, and a notebook that has them."""

from __future__ import annotations

import unicodedata
from datetime import timedelta
from pathlib import PurePosixPath, PureWindowsPath

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.aggregates import AT, a_notebook, assert_replays, stored_and_read
from support.stories import input_file

from nbledger_domain.errors import (
    FilesTooLargeError,
    InputFileExistsError,
    InputFileNotFoundError,
    InvalidFilesError,
    NotebookNotFoundError,
)
from nbledger_domain.events import DomainEvent, encode
from nbledger_domain.input_files import (
    RESERVED,
    FileLimits,
    InputFile,
    InvalidPathError,
    checked_path,
    collision,
    folded,
)
from nbledger_domain.notebook import Notebook
from nbledger_domain.vocabulary.windows_names import windows_fault, windows_warnings

LATER = AT + timedelta(seconds=1)
LIMITS = FileLimits(count=3, total_bytes=100)

REFUSED = {
    "": "names no file",
    "  ": "names no file",
    "/etc/passwd": "is absolute",
    "//server/share": "is absolute",
    "C:\\data.csv": "has a backslash",
    "C:data.csv": "is absolute",
    "c:/data.csv": "is absolute",
    "\\\\server\\share": "has a backslash",
    "data\\input.csv": "has a backslash",
    "../input.csv": "leads out",
    "data/../input.csv": "leads out",
    "..": "leads out",
    "./input.csv": "'.' in it",
    "data//input.csv": "an empty segment",
    "data/ /input.csv": "an empty segment",
    "data/": "names a folder",
    "a\x00b": "has U+0000 (a control character), which cannot be seen",
    "a\nb.csv": "has U+000A",
    "a\x7f": "has U+007F",
    "a\x85b": "has U+0085",
    "a\u202egpj.exe": "has U+202E (RIGHT-TO-LEFT OVERRIDE)",
    "\ud800": "has U+D800 (half of a surrogate pair)",
    "a\u200bb.csv": "has U+200B (ZERO WIDTH SPACE), which cannot be seen",
    "\ufeffa.csv": "has U+FEFF",
    "a\xadb": "has U+00AD (SOFT HYPHEN)",
    "a\u2028b": "has U+2028",
    "a\u0378": "has U+0378 (no character that Unicode knows)",
    "\ue000": "has U+E000 (a character for private use)",
    "\u3164": "has U+3164 (HANGUL FILLER), which cannot be seen",
    # Variation selectors, where nothing shows them: each belongs to what stands before it.
    "a\ufe0f.csv": "has U+FE0F (VARIATION SELECTOR-16), which cannot be seen",
    "\ufe0f.csv": "has U+FE0F",
    "x/\ufe0fa.csv": "has U+FE0F",
    "1\ufe0f.csv": "has U+FE0F",
    "→\ufe0f.csv": "has U+FE0F",
    "❤\ufe0f\ufe0f.csv": "has U+FE0F",
    "❤\ufe01.csv": "has U+FE01",
    "a\ufe00.csv": "has U+FE00",
    "a\U000e0100.csv": "has U+E0100 (VARIATION SELECTOR-17)",
    "あ\U000e0100.csv": "has U+E0100",
    "a\u180b.csv": "has U+180B",
    # Signs of numbers without a number.
    "a\u0600.csv": "has U+0600 (ARABIC NUMBER SIGN), which cannot be seen",
    "\u0605a": "has U+0605",
    "a\u08e2.csv": "has U+08E2",
    "a\u070f.csv": "has U+070F",
    # Blanks that are not U+0020, at an end of a name.
    "\xa0a.csv": "begins or ends with U+00A0 (NO-BREAK SPACE), which cannot be seen there",
    "a.csv\u3000": "begins or ends with U+3000",
    "data\u202f/a.csv": "begins or ends with U+202F",
    "data/ \u2003a.csv": "begins or ends with U+2003",
    # Joiners where nothing is joined, or nothing needs them.
    "中\u200d文": "has U+200D",
    "가\u200c나": "has U+200C",
    "中\ufe0f\u200d💻": "has U+FE0F",
    "order\u200ds.csv": "has U+200D (ZERO WIDTH JOINER)",
    "می\u200c": "has U+200C",
    "می/\u200dx": "has U+200D",
    "می\u200d\u200cم": "has U+200D",
    "x" * 256: "more than 255 bytes",
    "ü" * 128: "more than 255 bytes",
    "/".join(["x" * 250] * 4): "more than 1000 bytes",
    "/".join("x" * 17): "more than 16 levels",
    ".nbledger/run.json": "keeps for itself",
    ".NBledger/run.json": "keeps for itself",
    ".home": "keeps for itself",
    ".tmp/x": "keeps for itself",
    ".venv/pyvenv.cfg": "keeps for itself",
    "outputs": "what runs leave behind",
    "Outputs/x.csv": "what runs leave behind",
    "other.ipynb": "is a notebook",
    "data/OTHER.IPYNB": "is a notebook",
    "n.ipynb/data.csv": "lies in a folder that has the name of a notebook",
}


@pytest.mark.parametrize("path", REFUSED, ids=ascii)
def test_paths_that_are_refused_are_named_with_the_reason(path: str) -> None:
    with pytest.raises(InvalidPathError) as refused:
        checked_path(path)
    assert REFUSED[path] in str(refused.value)
    assert str(refused.value).isprintable()
    if path.isprintable() and "cannot be seen" not in str(refused.value) and len(path) < 200:
        assert path in str(refused.value).replace("\\\\", "\\")


@pytest.mark.parametrize(
    "path",
    [
        "input.csv",
        "data/2024-01-20T10:30.csv",
        "données/été.csv",
        "数据/输入.csv",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.csv",
        "क्\u200dष.csv",
        "👩🏽\u200d💻/❤️\u200d🔥.txt",
        "\u0600\u0661.csv",
        "\u08e2\u0661.csv",
        "\u070f\u0710.csv",
        "❤\ufe0f.csv",
        "☎\ufe0e 1\ufe0f\u20e3.csv",
        "🏳\ufe0f\u200d🌈.csv",
        "葛\U000e0100城.csv",
        "ᠠ\u180b.csv",
        "a\xa0b\u3000c.csv",
        " a .csv",
        "Screenshot 10.30\u202fAM.png",
        ".env",
        "..data/...csv",
        "my outputs/a b.csv",
        "data/outputs/a.csv",
        "notes.ipynb.txt",
        "data.zip",
        "-rf",
        "~/x",
        "x" * 255,
        "/".join("x" * 16),
    ],
)
def test_paths_that_are_fine_stay_as_they_are(path: str) -> None:
    assert checked_path(path) == path


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("data/10:30.csv", "has :"),
        ('a"b', 'has "'),
        ("what?/x", "has ?"),
        ("nul", "has the name of a device, NUL"),
        ("data/Con.txt", "has the name of a device, CON"),
        ("com1 .tar.gz", "has the name of a device, COM1"),
        ("LPT²", "has the name of a device, LPT²"),
        ("conout$", "has the name of a device, CONOUT$"),
        ("a./x", "ends with a dot or a blank"),
        ("x ", "ends with a dot or a blank"),
        *dict.fromkeys(["console.txt", "com.csv", "com10", ".env", "a b.csv", "nul_.csv"]).items(),
    ],
)
def test_a_path_that_windows_cannot_hold_is_told_from_others(path: str, reason: str | None) -> None:
    assert checked_path(path) == path
    told = windows_fault(path)
    assert (told is None) if reason is None else (told is not None and reason in told)


def test_of_many_paths_for_windows_to_refuse_some_are_named() -> None:
    assert windows_warnings(["a.csv", "data/b.csv"]) == []
    (two,) = windows_warnings(["a.csv", "a:b", "nul"])
    assert two == (
        "Windows cannot hold files of these names: 'a:b' has :, 'nul' has the name of a device, NUL"
    )
    (many,) = windows_warnings(f"{number}?" for number in range(50))
    assert many.count("has ?") == 5
    assert many.endswith(" and 45 more")


def test_a_name_that_a_mac_has_taken_apart_is_put_together() -> None:
    apart = unicodedata.normalize("NFD", "données.csv")
    assert apart != "données.csv"
    assert checked_path(apart) == "données.csv"


segments = st.sampled_from(
    [
        "a",
        "A",
        "ä",
        "a\u0308",
        "ß",
        "ss",
        "..",
        ".",
        "",
        " ",
        "outputs",
        ".home",
        "C:",
        "a\\b",
        "\x00",
    ]
)
paths = st.lists(segments | st.text(max_size=4), max_size=5).map("/".join)


@given(paths)
def test_a_path_that_is_taken_stays_in_the_folder_on_every_system(text: str) -> None:
    try:
        path = checked_path(text)
    except InvalidPathError:
        return
    assert checked_path(path) == path
    for kind in (PurePosixPath, PureWindowsPath):
        taken = kind(path)
        assert not taken.is_absolute()
        assert not taken.drive
        assert taken.parts
        assert ".." not in taken.parts
    assert PurePosixPath(path).as_posix() == path
    assert path.split("/")[0].casefold() not in RESERVED


@given(st.lists(paths, max_size=6))
def test_what_does_not_collide_can_be_told_apart_without_case(texts: list[str]) -> None:
    taken = []
    for text in texts:
        try:
            taken.append(checked_path(text))
        except InvalidPathError:
            continue
    folders = {
        folded("/".join(path.split("/")[:depth]))
        for path in taken
        for depth in range(1, path.count("/") + 1)
    }
    names = [folded(path) for path in taken]
    told = collision(taken)
    assert (told is None) == (len(set(names)) == len(names) and folders.isdisjoint(names))


def test_collisions_are_told() -> None:
    assert collision(["a.csv", "b.csv", "data/a.csv", "Data/b.csv"]) is None
    assert collision(["a.csv", "a.csv"]) == "'a.csv' is there twice"
    assert (
        collision(["A.csv", "a.csv"]) == "'a.csv' differs from 'A.csv' in upper and lower case only"
    )
    assert (
        collision(["data/a/b.csv", "Data"])
        == "'Data' is a file, and 'data/a/b.csv' needs a folder of that name"
    )


def put(notebook: Notebook, *files: InputFile, replace: bool = False) -> bool:
    return notebook.put_files(files, replace=replace, limits=LIMITS, at=LATER)


def types(history: list[DomainEvent]) -> list[str]:
    return [event.TYPE.split(".")[1] for event in history]


def test_files_are_put_replaced_and_removed_and_each_change_is_a_version() -> None:
    notebook = a_notebook(files=[input_file("a.csv", 1), input_file("b.csv", 2)])
    assert notebook.notebook_version == "1.0.0"
    history = stored_and_read(notebook)
    assert types(history) == ["created", "files-put"]
    assert [file.modified_at for file in notebook.files.values()] == [AT, AT]

    # What is there already is no change, whatever else comes along.
    assert not put(notebook, input_file("a.csv", 1))
    assert notebook.notebook_version == "1.0.0"
    with pytest.raises(InputFileExistsError, match=r"another file at 'b\.csv'"):
        put(notebook, input_file("a.csv", 1), input_file("b.csv", 3))
    assert put(notebook, input_file("a.csv", 1), input_file("b.csv", 3), replace=True)
    assert notebook.notebook_version == "1.1.0"
    assert (notebook.files["b.csv"].size, notebook.files["b.csv"].modified_at) == (3, LATER)
    assert notebook.files["a.csv"].modified_at == AT
    notebook.remove_file("a.csv", at=LATER)
    assert notebook.notebook_version == "1.2.0"
    assert list(notebook.files) == ["b.csv"]
    with pytest.raises(InputFileNotFoundError, match=r"'a\.csv'"):
        notebook.remove_file("a.csv", at=LATER)
    news = stored_and_read(notebook)
    assert types(news) == ["files-put", "version-bumped", "files-removed", "version-bumped"]
    (replaced, *_) = news
    assert isinstance(replaced, Notebook.FilesPut)
    assert [file.path for file in replaced.files] == ["b.csv"]
    assert replaced.replaced == ["b.csv"]
    assert_replays(notebook, [*history, *news])


def test_a_file_in_the_place_of_a_program_is_one_too() -> None:
    program = msgspec.structs.replace(input_file("run.sh", 1), executable=True)
    notebook = a_notebook(files=[program, input_file("a.csv", 2)])
    assert put(notebook, input_file("run.sh", 3), input_file("a.csv", 4), replace=True)
    assert notebook.files["run.sh"].size == 3
    assert [file.executable for file in notebook.files.values()] == [True, msgspec.UNSET]
    history = stored_and_read(notebook)
    assert_replays(notebook, history)
    (first, *_) = [event for event in history if isinstance(event, Notebook.FilesPut)]
    told = msgspec.json.decode(encode(first))["files"]
    assert [file.get("executable", "absent") for file in told] == [True, "absent"]


def test_nothing_is_put_where_one_file_cannot_be() -> None:
    notebook = a_notebook(files=[input_file("data/a.csv", 50)])
    stored_and_read(notebook)
    for files, error in (
        ([input_file("Data/A.csv", 1)], InvalidFilesError),
        ([input_file("data", 1)], InvalidFilesError),
        ([input_file("b.csv", 1), input_file("b.csv", 2)], InvalidFilesError),
        ([input_file("b.csv", 51)], FilesTooLargeError),
        ([input_file(name, 1) for name in "bcd"], FilesTooLargeError),
    ):
        with pytest.raises(error):
            put(notebook, *files, replace=True)
    assert not notebook.collect_events()
    assert list(notebook.files) == ["data/a.csv"]
    # What is beyond a bound that was lowered may become less.
    tight = FileLimits(count=0, total_bytes=10)
    smaller = [input_file("data/a.csv", 49)]
    assert notebook.put_files(smaller, replace=True, limits=tight, at=LATER)
    notebook.request_deletion(at=LATER)
    with pytest.raises(NotebookNotFoundError):
        put(notebook, input_file("b.csv"))
    with pytest.raises(NotebookNotFoundError):
        notebook.remove_file("data/a.csv", at=LATER)
