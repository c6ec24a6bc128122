"""Words that several rooms share have one definition each; copies that must be are equal."""

import re
from typing import get_args

import pytest
from support.paths import ROOT, SOURCE_ROOTS

from mindzie_sdk import client
from nbledger_client.core import frames
from nbledger_domain.vocabulary import languages, media_types
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_domain.vocabulary.cell_ids import CELL_ID, CELL_ID_PATTERN
from nbledger_domain.vocabulary.priorities import PRIORITIES, Priority

VOCABULARY = "domain/nbledger_domain/vocabulary"
EXAMPLES = "http/nbledger_http/description/execution_examples.py"


@pytest.mark.parametrize(
    ("word", "besides"),
    [
        # Examples are what clients see, letter by letter; SDK and client import no service.
        (
            r'"application/vnd\.apache\.parquet"',
            {EXAMPLES, "sdk/mindzie_sdk/client.py", "client/nbledger_client/core/frames.py"},
        ),
        (r'"application/vnd\.jupyter\.', set()),
        (r'"dataFrame"', set()),
        (r'"python3": "', set()),
        (r'"ir"', set()),
        (r"a-zA-Z0-9_-\]\{1,64\}", set()),
        (r'\["?Low"?, "?Normal"?, "?High"?\]', set()),
        (r"/api/\{", set()),
        (r"frozenset\(\{\"stream\"|\(\"stream\", \"error\"\)", set()),
        # Of a program that becomes another one and imports nothing of ours.
        (
            r"PR_SET_PDEATHSIG\b.* = ",
            {
                "cli/nbledger/embedded/_exec_owned.py",
                "workers/nbledger_workers/kernel/standalone/prctl.py",
            },
        ),
    ],
)
def test_a_word_is_written_in_one_place(word: str, besides: set[str]) -> None:
    found = {
        str(path.relative_to(ROOT))
        for root in SOURCE_ROOTS
        for path in (ROOT / root).rglob("*.py")
        if re.search(word, path.read_text())
    }
    assert {place for place in found if not place.startswith(VOCABULARY)} == besides


def test_copies_are_equal() -> None:
    assert client._MEDIA_TYPE["parquet"] == frames.PARQUET == media_types.PARQUET
    values = {
        re.search(r"(?m)^_?PR_SET_PDEATHSIG\b.* = (\d+)$", (ROOT / path).read_text())
        for path in (
            "cli/nbledger/embedded/_exec_owned.py",
            "workers/nbledger_workers/kernel/standalone/prctl.py",
        )
    }
    assert {match and match[1] for match in values} == {"1"}


def test_kernel_types_and_languages() -> None:
    assert set(languages.LANGUAGES.values()) == set(get_args(languages.Language))
    assert set(languages.BY_NAME) == set(get_args(languages.Language))
    assert languages.KERNELSPECS == {"python3": "python3", "r": "ir", "scala": "scala"}
    assert all(languages.KERNEL_TYPE.match(each) for each in languages.KERNEL_TYPES)
    assert languages.DEFAULT_KERNEL_TYPE in languages.KERNEL_TYPES


def test_priorities_are_those_of_the_type() -> None:
    assert sorted(PRIORITIES) == sorted(get_args(Priority))


def test_cell_ids() -> None:
    assert re.match(CELL_ID_PATTERN, "cell-001")
    for good in ("a", "cell-001", "A_b", "x" * 64):
        assert CELL_ID.match(good)
    for bad in ("", "x" * 65, "a b", "a\n", "ä"):
        assert not CELL_ID.match(bad)


@pytest.mark.parametrize(
    ("media_type", "json", "binary"),
    [
        ("application/json", True, False),
        ("application/vnd.plotly.v1+json", True, False),
        ("application/jsonl", False, False),
        ("text/json", False, False),
        ("image/png", False, True),
        ("image/svg+xml", False, False),
        ("application/pdf", False, True),
        ("application/pdfx", False, False),
        ("text/html", False, False),
    ],
)
def test_kinds_of_media_types(media_type: str, *, json: bool, binary: bool) -> None:
    assert media_types.is_json(media_type) is json
    assert media_types.is_binary(media_type) is binary


def test_paths_of_the_api() -> None:
    assert project_path("t", "p") == "/api/t/p"
    assert project_path("t", "p", "notebook", 7) == "/api/t/p/notebook/7"
