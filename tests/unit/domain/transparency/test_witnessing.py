"""What witnesses are asked (C2SP tlog-witness), and the lists of logs that they know."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tlog import SmallLog, new_signer

from nbledger_domain.transparency import merkle
from nbledger_domain.transparency.checkpoints import LogCheckpoint
from nbledger_domain.transparency.log_lists import LogListError, read_log_list
from nbledger_domain.transparency.merkle import ProofError
from nbledger_domain.transparency.notes import COSIGNATURE, Key, NoteError
from nbledger_domain.transparency.witnessing import (
    AddCheckpoint,
    OldSizeError,
    SizeConflictError,
    origin_hash,
    read_add_checkpoint,
    read_size,
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> SmallLog:
    return SmallLog(new_signer(tmp_path_factory.mktemp("log"), "log"), "ledger.example.com/log")


def test_a_request_has_the_form_of_the_specification(log: SmallLog) -> None:
    told = str(log.request(3, 5))
    lines = told.split("\n")
    assert lines[0] == "old 3"
    assert lines.index("") == 1 + len(log.proof(3, 5))
    assert lines[lines.index("") + 1] == "ledger.example.com/log"
    assert read_add_checkpoint(told) == log.request(3, 5)
    assert str(log.request(0, 5)) == f"old 0\n\n{log.note(5)}"


@pytest.mark.parametrize(
    "change",
    [
        ("old 3", "old 03"),
        ("old 3", "old  3"),
        ("old 3", "old -3"),
        ("old 3", "Old 3"),
        ("old 3", "old"),
        ("old 3\n", ""),
        ("old 3\n", "old 3\nAAAA\n"),
        ("old 3\n", "old 3\n" + "A" * 43 + "=\n" * 64),
        ("old 3\n", "old 3\n" + ("A" * 43 + "=\n") * 64),
        ("old 3\n", "old 3\n" + "A" * 42 + "B=\n"),
        ("old 3\n", "old 3\r\n"),
        ("\n\n", "\n"),
    ],
)
def test_what_is_no_request_is_refused(log: SmallLog, change: tuple[str, str]) -> None:
    told = str(log.request(3, 5)).replace(*change)
    with pytest.raises(NoteError):
        read_add_checkpoint(told)


def test_a_size_is_a_line() -> None:
    assert [read_size(told) for told in ("0\n", "17\n")] == [0, 17]
    for told in ("17", "017\n", "", "17\n\n", "-1\n", "1e3\n", "\u0661\n"):
        with pytest.raises(NoteError):
            read_size(told)


@pytest.mark.guarantee("G41")
def test_only_what_goes_on_from_the_last_checkpoint_is_cosigned(log: SmallLog) -> None:
    other = SmallLog(log.signer, log.origin, "another history ")
    for old in (0, 1, 3, 256, 300):
        last = None if old == 0 else log.checkpoint(old)
        for size in (old, old + 1, old + 256, 699):
            request = log.request(old, size)
            request.check(log.checkpoint(size), last)
            if old not in {0, size}:
                with pytest.raises(ProofError):
                    other.request(old, size).check(other.checkpoint(size), last)
            if old == size and old:
                with pytest.raises(ProofError, match="the trees differ"):
                    request.check(other.checkpoint(size), last)
    with pytest.raises(OldSizeError):
        AddCheckpoint(6, (), log.note(5)).check(log.checkpoint(5), log.checkpoint(6))
    for old in (0, 2, 4):
        with pytest.raises(SizeConflictError) as conflict:
            log.request(old, 5).check(log.checkpoint(5), log.checkpoint(3))
        assert conflict.value.size == 3
    with pytest.raises(SizeConflictError) as conflict:
        log.request(3, 5).check(log.checkpoint(5), None)
    assert conflict.value.size == 0
    with pytest.raises(ProofError, match="there is a proof"):
        AddCheckpoint(0, log.proof(3, 5), log.note(5)).check(log.checkpoint(5), None)


def test_the_tree_without_entries_has_one_hash(log: SmallLog) -> None:
    empty = LogCheckpoint(log.origin, 0, merkle.EMPTY)
    AddCheckpoint(0, (), log.note(0)).check(empty, None)
    AddCheckpoint(0, (), log.note(0)).check(empty, empty)
    with pytest.raises(ProofError):
        AddCheckpoint(0, (), log.note(0)).check(LogCheckpoint(log.origin, 0, bytes(32)), None)


def test_a_list_of_logs_has_the_keys_of_each(tmp_path: Path) -> None:
    first, second = (new_signer(tmp_path, name) for name in ("first", "second"))
    told = (
        "# known here\n\nlogs/v0\n\n"
        f"vkey {first.key('ledger.example.com/a').encoded}\nqpd 86400\n"
        f"vkey {second.key('ledger.example.com/a').encoded}\n"
        f"vkey {first.key('name-of-the-key').encoded}\norigin the origin\ncontact nobody\n"
    )
    assert read_log_list(told) == {
        "ledger.example.com/a": (
            first.key("ledger.example.com/a"),
            second.key("ledger.example.com/a"),
        ),
        "the origin": (first.key("name-of-the-key"),),
    }
    assert read_log_list("logs/v0\n") == {}
    cosigning = first.key("w", COSIGNATURE).encoded
    for bad, line in (
        ("", "begins with"),
        ("logs/v1\n", "line 1"),
        (f"vkey {first.key('a').encoded}\n", "line 1"),
        ("logs/v0\norigin a\n", "line 2"),
        ("logs/v0\nvkey\n", "line 2"),
        ("logs/v0\nvkey a+b+c\n", "line 2"),
        (f"logs/v0\nvkey {cosigning}\n", "line 2"),
        (f"logs/v0\nvkey {Key('a', 1, b'short').encoded}\n", "line 2"),
    ):
        with pytest.raises(LogListError, match=line):
            read_log_list(bad)


def test_a_log_is_found_by_the_hash_of_its_origin() -> None:
    assert origin_hash("") == merkle.EMPTY.hex()
