"""Outputs gathered message by message, in bounded memory."""

from __future__ import annotations

import hashlib
import re
import time
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from nbledger_domain.execution import Output, Representation
from nbledger_domain.output_digest import outputs_digest
from nbledger_workers.kernel.outputs.budget import Budget
from nbledger_workers.kernel.outputs.collector import (
    MAX_CHANGES,
    MAX_OUTPUTS,
    OutputCollector,
)
from nbledger_workers.kernel.outputs.errors import ErrorText, error_text
from nbledger_workers.kernel.outputs.forms import forms, plain
from nbledger_workers.kernel.outputs.gathered import PART_BYTES


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"msg_type": "stream", "content": {"name": name, "text": text}}


def display(text: str, display_id: str | None = None) -> dict[str, Any]:
    content: dict[str, Any] = {"data": {"text/plain": text}, "metadata": {}}
    if display_id is not None:
        content["transient"] = {"display_id": display_id}
    return {"msg_type": "display_data", "content": content}


def decoded(collector: OutputCollector) -> list[dict[str, Any]]:
    return [msgspec.json.decode(output) for output in collector.outputs()]


def kept(collector: OutputCollector) -> list[Output]:
    """The outputs as they would be stored."""
    return [
        Output(
            output_type=output["output_type"],
            stream=output.get("name"),
            representations=[
                Representation(kind, hashlib.sha256(content).hexdigest(), len(content))
                for kind, content in forms(output)
            ],
            metadata=output.get("metadata", {}),
        )
        for output in decoded(collector)
    ]


def kept_bytes(collector: OutputCollector) -> int:
    return sum(form.size for output in kept(collector) for form in output.representations)


def terminal(text: str) -> str:
    """What a terminal shows, of unlimited width and without colours."""
    lines = [""]
    column = 0
    for token in re.findall(r"\x1b\[[0-9]*[KCDG]|.", text, re.DOTALL):
        line = lines[-1]
        if token == "\n":
            lines.append("")
            column = 0
        elif token == "\r":
            column = 0
        elif token == "\b":
            column = max(column - 1, 0)
        elif token == "\x1b[K":
            lines[-1] = line[:column]
        elif token == "\x1b[2K":
            lines[-1] = ""
        else:
            lines[-1] = line.ljust(column)[:column] + token + line[column + 1 :]
            column += 1
    return "\n".join(lines)


_PIECES = st.lists(
    st.lists(st.sampled_from(["a", "b", "\r", "\n", "\b", "\x1b[K", "\x1b[2K"]), max_size=6).map(
        "".join
    ),
    max_size=12,
)


@settings(deadline=None)
@given(_PIECES, st.data())
def test_a_stream_reads_as_on_a_terminal_however_it_was_cut(
    pieces: list[str], data: st.DataObject
) -> None:
    whole = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    collector = OutputCollector(1000)
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        collector.add(stream(whole[start:end]))
    before = decoded(collector)
    size = collector.output_bytes
    collector.close()
    assert decoded(collector) == before
    text = "".join(output["text"] for output in before)
    assert text == terminal(whole)
    assert size == collector.output_bytes == len(text)


def test_progress_bars_leave_their_last_state_with_its_colours() -> None:
    collector = OutputCollector(10_000)
    for done in range(1, 101):
        collector.add(stream(f"\r\x1b[32m{done:3}%\x1b[0m|{'#' * (done // 10):10}| {done}/100"))
    collector.add(stream("\n  0%\r100%\r\n"))
    for spinner in "|/-\\" * 50:
        collector.add(stream(f"\b{spinner}", "stderr"))
    texts = {output["name"]: output["text"] for output in decoded(collector)}
    assert plain(texts["stdout"]) == "100%|##########| 100/100\n100%\n"
    assert "\x1b[32m100%\x1b[0m|" in texts["stdout"]
    assert texts["stderr"] == "\\"


def test_a_bar_that_is_redrawn_a_hundred_thousand_times_costs_little() -> None:
    begun = time.process_time()
    collector = OutputCollector(1_000)
    for done in range(100_000):
        collector.add(stream(f"\r{done:6} {'#' * 60}"))
    assert decoded(collector)[0]["text"] == f" 99999 {'#' * 60}"
    assert not collector.truncated
    assert time.process_time() - begun < 10


def test_streams_are_kept_in_the_order_written() -> None:
    collector = OutputCollector(1000)
    texts = (stream("a"), stream("\rb"), stream("!", "stderr"), stream("b"))
    for message in (*texts, display("d"), stream("c")):
        collector.add(message)
    kinds = [(out["output_type"], out.get("name"), out.get("text")) for out in decoded(collector)]
    assert kinds == [
        ("stream", "stdout", "b"),
        ("stream", "stderr", "!"),
        ("stream", "stdout", "b"),
        ("display_data", None, None),
        ("stream", "stdout", "c"),
    ]
    assert collector.output_count == 5
    assert not collector.joined


def test_streams_that_change_too_often_are_joined_and_that_is_told() -> None:
    collector = OutputCollector(100_000)
    names = ("stdout", "stderr")
    for number in range(MAX_CHANGES + 1):
        collector.add(stream(f"{number}\n", names[number % 2]))
    joined = [collector.joined]
    for number in range(MAX_CHANGES + 1, 1_000):
        collector.add(stream(f"{number}\n", names[number % 2]))
    collector.add(display("d"))
    for number in range(4):
        collector.add(stream(f"{number}\n", names[number % 2]))
    collector.close()
    assert [*joined, collector.joined] == [False, True]
    texts = [output.get("text") for output in decoded(collector)]
    assert texts[:MAX_CHANGES] == [f"{number}\n" for number in range(MAX_CHANGES)]
    rest = range(MAX_CHANGES, 1_000)
    assert texts[MAX_CHANGES:] == [
        "".join(f"{number}\n" for number in rest if number % 2 == 0),
        "".join(f"{number}\n" for number in rest if number % 2),
        None,
        "0\n2\n",
        "1\n3\n",
    ]
    assert collector.digest() == outputs_digest(kept(collector))
    # Clearing does not begin the count anew: the kernel's goes on, too.
    collector.clear(wait=False)
    for number in range(4):
        collector.add(stream(f"{number}\n", names[number % 2]))
    assert len(collector.outputs()) == 2


_MESSAGES = st.lists(
    st.builds(stream, st.text(max_size=40), st.sampled_from(["stdout", "stderr"]))
    | st.builds(display, st.text(max_size=40), st.sampled_from([None, "d"])),
    max_size=30,
)


@settings(deadline=None)
@given(_MESSAGES, st.integers(0, 300), st.integers(0, 300), st.integers(1, 20))
def test_never_more_is_kept_than_allowed_and_a_loss_is_flagged(
    messages: list[dict[str, Any]], limit: int, budget: int, count: int
) -> None:
    whole = OutputCollector(1_000_000)
    capped = OutputCollector(limit, max_outputs=count, budget=Budget(budget))
    uncaptured = OutputCollector(limit, keep=False)
    for message in messages:
        for collector in (whole, capped, uncaptured):
            collector.add(message)
        assert kept_bytes(capped) <= min(limit, budget)
    for collector in (whole, capped, uncaptured):
        collector.close()
    assert kept_bytes(capped) <= min(limit, budget)
    assert len(capped.outputs()) <= count
    assert not whole.truncated
    assert kept_bytes(whole) == whole.output_bytes
    assert uncaptured.outputs() == []
    assert not uncaptured.truncated
    assert {c.output_count for c in (whole, capped, uncaptured)} == {whole.output_count}
    assert outputs_digest(kept(whole)) == whole.digest()
    if not capped.truncated:
        assert capped.outputs() == whole.outputs()
        assert capped.output_bytes == whole.output_bytes
        assert capped.digest() == whole.digest()
    elif not any("transient" in message["content"] for message in messages):
        # The digest is over all that came, whatever was kept of it.
        assert outputs_digest(kept(capped)) != whole.digest() == capped.digest()


def test_the_digest_tells_of_order_names_bytes_and_metadata() -> None:
    def digest_of(*messages: dict[str, Any]) -> str:
        collector = OutputCollector(1000)
        for message in messages:
            collector.add(message)
        assert outputs_digest(kept(collector)) == collector.digest()
        return collector.digest()

    with_metadata = display("a")
    with_metadata["content"]["metadata"] = {"isolated": True, "b": [1.5, None]}
    digests = {
        digest_of(),
        digest_of(stream("a")),
        digest_of(stream("a", "stderr")),
        digest_of(display("a")),
        digest_of(with_metadata),
        digest_of(display("a"), stream("a")),
        digest_of(stream("a"), display("a")),
    }
    assert len(digests) == 7
    assert digest_of(stream("a"), stream("b")) == digest_of(stream("ab"))
    # As in docs/events.md: an auditor needs no more than sha256sum.
    sha = hashlib.sha256(b"a").hexdigest()
    by_hand = hashlib.sha256(f"stream stdout\n{sha} 1 text/plain\n\n".encode()).hexdigest()
    assert digest_of(stream("a")) == by_hand


def test_the_digest_follows_updates_clearing_and_errors() -> None:
    collector = OutputCollector(10_000)
    collector.add(display("old", "d"))
    collector.add(stream("text"))
    collector.update(display("new", "d"))
    collector.add({"msg_type": "error", "content": {"ename": "SystemExit", "evalue": "0"}})
    assert outputs_digest(kept(collector)) == collector.digest()
    collector.drop_error(ErrorText("SystemExit", "1", []))
    assert outputs_digest(kept(collector)) == collector.digest()
    assert len(decoded(collector)) == 3
    collector.drop_error(ErrorText("SystemExit", "0", []))
    assert outputs_digest(kept(collector)) == collector.digest()
    assert [output["output_type"] for output in decoded(collector)] == ["display_data", "stream"]
    collector.clear(wait=False)
    assert collector.digest() == hashlib.sha256(b"").hexdigest()


def test_long_text_leaves_in_parts_and_nothing_is_missing() -> None:
    line = "zwölf Boxkämpfer € jagen \U0001f600\n"
    text = line * (5 * PART_BYTES // len(line.encode()))
    collector = OutputCollector(20 * PART_BYTES)
    parts: list[bytes] = []
    for start in range(0, len(text), 100_001):
        collector.add(stream(text[start : start + 100_001]))
        while (part := collector.take_part()) is not None:
            assert part[0] == 1
            assert len(part[1]) <= PART_BYTES
            parts.append(part[1])
    (rest,) = decoded(collector)
    assert rest["parts"] == 1
    assert len(parts) >= 4
    assert b"".join(parts).decode() + rest["text"] == text
    assert not collector.truncated
    assert collector.output_bytes == len(text.encode())


def test_changes_are_told_once() -> None:
    collector = OutputCollector(1000)
    assert collector.changes() is None
    collector.add(display("one", "d"))
    collector.add(stream("a"))
    assert (collector.changes(), collector.changes()) == (0, None)
    collector.add(stream("b"))
    assert collector.changes() == 1
    collector.add(display("two"))
    assert collector.changes() == 2
    collector.update(display("new", "d"))
    assert collector.changes() == 0
    collector.clear(wait=False)
    assert collector.changes() == 0


def test_what_a_cleared_output_took_is_free_again_for_the_run() -> None:
    budget = Budget(100)
    first = OutputCollector(1000, budget=budget)
    for _ in range(50):
        first.clear(wait=True)
        first.add(stream("x" * 60))
    first.close()
    assert (first.truncated, budget.left) == (False, 40)
    second = OutputCollector(1000, budget=budget)
    second.add(stream("y" * 60))
    second.close()
    assert (second.truncated, budget.left) == (True, 0)
    assert decoded(second)[0]["text"] == "y" * 40


def test_a_cleared_output_frees_its_room_and_forgets_the_loss() -> None:
    collector = OutputCollector(10)
    collector.add(stream("x" * 50))
    lost = collector.truncated
    assert lost
    collector.clear(wait=True)
    assert decoded(collector)[0]["text"] == "x" * 10
    collector.add(stream("new"))
    assert [output["text"] for output in decoded(collector)] == ["new"]
    assert not collector.truncated
    collector.clear(wait=False)
    assert collector.outputs() == []


def test_an_update_replaces_every_display_of_its_id_within_the_limit() -> None:
    collector = OutputCollector(400)
    collector.add(display("one", "d"))
    collector.add(display("two", "e"))
    collector.add(display("three", "d"))
    assert collector.update(display("new", "d"))
    assert not collector.update(display("new", "unknown"))
    assert [out["data"]["text/plain"] for out in decoded(collector)] == ["new", "two", "new"]
    assert collector.update(display("x" * 1000, "e"))
    assert collector.truncated
    assert [out["data"]["text/plain"] for out in decoded(collector)] == ["new", "two", "new"]


def test_a_long_line_costs_linear_time() -> None:
    begun = time.process_time()
    collector = OutputCollector(20_000_000)
    for _ in range(200):
        collector.add(stream("x" * 50_000))
    for _ in range(1000):
        collector.add(stream("."))
    # A carriage return reaches back as far as lines can still change.
    collector.add(stream("\rdone"))
    text = decoded(collector)[0]["text"]
    assert text.startswith("x" * 10_000_000)
    assert "done" in text[10_000_000:]
    assert time.process_time() - begun < 10


def test_values_no_json_can_hold_are_replaced() -> None:
    collector = OutputCollector(1000)
    message = display("\ud800 half")
    message["content"]["data"]["application/json"] = {"nan": float("nan")}
    collector.add(message)
    collector.add(stream("\udfff"))
    first, second = decoded(collector)
    assert first["data"] == {"text/plain": "? half", "application/json": {"nan": None}}
    assert second["text"] == "?"


def test_errors_are_cut_to_a_sane_length_from_the_end() -> None:
    told = error_text({"ename": "E", "evalue": "v\0" * 20_000, "traceback": ["x" * 90_000] * 3})
    assert told.value == "v\ufffd" * 5_000 + "\N{HORIZONTAL ELLIPSIS} [30,000 characters left out]"
    assert told.traceback[0] == "[170,000 characters of the traceback's beginning left out]"
    assert sum(map(len, told.traceback[1:])) == 100_000
    assert error_text({}).name == "Error"


def test_what_is_dropped_is_counted_where_it_was() -> None:
    collector = OutputCollector(100)
    for message in (
        display("x" * 101),
        display("x" * 200),
        display("x" * 10),
        stream("y" * 150 + "\n"),
        display("x" * 20),
    ):
        collector.add(message)
    collector.add({"msg_type": "error", "content": {"ename": "E", "evalue": "e"}})
    gaps = [output.get("notKeptBefore") for output in decoded(collector)]
    # The stream is cut after 90 bytes, and the display behind it has no room.
    assert gaps == [{"outputs": 2, "bytes": 301}, None, {"outputs": 1, "bytes": 81}]
    assert [output["output_type"] for output in decoded(collector)] == [
        "display_data",
        "stream",
        "error",
    ]


def test_the_number_of_outputs_is_bounded() -> None:
    collector = OutputCollector(20_000_000)
    shown = {"msg_type": "display_data", "content": {"data": {"text/plain": "x"}}}
    for _ in range(MAX_OUTPUTS + 5):
        collector.add(shown)
    collector.add({"msg_type": "stream", "content": {"name": "stdout", "text": "more"}})
    failed = {"ename": "E", "evalue": "e", "traceback": []}
    collector.add({"msg_type": "error", "content": failed})
    # An error is kept in any case.
    assert len(collector.outputs()) == MAX_OUTPUTS + 1
    assert collector.truncated
    assert collector.output_count == MAX_OUTPUTS + 7
