"""Outputs gathered message by message, in bounded memory."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from nbledger_workers.kernel.outputs import MAX_OUTPUTS, OutputCollector, error_text


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"msg_type": "stream", "content": {"name": name, "text": text}}


def display(text: str, display_id: str | None = None) -> dict[str, Any]:
    content: dict[str, Any] = {"data": {"text/plain": text}, "metadata": {}}
    if display_id is not None:
        content["transient"] = {"display_id": display_id}
    return {"msg_type": "display_data", "content": content}


def decoded(collector: OutputCollector) -> list[dict[str, Any]]:
    return [msgspec.json.decode(output) for output in collector.outputs()]


def terminal(text: str) -> str:
    """What is left of each line when a carriage return that has text after it starts it anew."""
    lines = []
    for line in text.split("\n"):
        start = line.rstrip("\r").rfind("\r") + 1
        lines.append(line[start:])
    return "\n".join(lines)


@given(st.lists(st.text("ab\r\n", max_size=6), max_size=12))
def test_a_stream_reads_the_same_however_it_was_cut_into_messages(pieces: list[str]) -> None:
    collector = OutputCollector(1000)
    for piece in pieces:
        collector.add(stream(piece))
    text = "".join(output["text"] for output in decoded(collector))
    assert text == terminal("".join(pieces))
    assert collector.output_bytes == len(text)


def test_streams_of_a_name_are_one_output_until_another_kind_comes() -> None:
    collector = OutputCollector(1000)
    for message in (stream("a"), stream("!", "stderr"), stream("b"), display("d"), stream("c")):
        collector.add(message)
    kinds = [(out["output_type"], out.get("name"), out.get("text")) for out in decoded(collector)]
    assert kinds == [
        ("stream", "stdout", "ab"),
        ("stream", "stderr", "!"),
        ("display_data", None, None),
        ("stream", "stdout", "c"),
    ]
    assert collector.output_count == 4


@given(
    st.lists(
        st.builds(stream, st.text(max_size=40), st.sampled_from(["stdout", "stderr"]))
        | st.builds(display, st.text(max_size=40)),
        max_size=30,
    ),
    st.integers(0, 600),
)
def test_never_more_is_kept_than_allowed_and_a_loss_is_flagged(
    messages: list[dict[str, Any]], limit: int
) -> None:
    whole, capped = OutputCollector(1_000_000), OutputCollector(limit)
    for message in messages:
        whole.add(message)
        capped.add(message)
    kept = sum(
        len(output.get("text", "").encode())
        if output["output_type"] == "stream"
        else len(msgspec.json.encode(output))
        for output in decoded(capped)
    )
    assert kept <= limit
    assert not whole.truncated
    if not capped.truncated:
        assert capped.outputs() == whole.outputs()
        assert capped.output_bytes == whole.output_bytes


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
    begun = time.monotonic()
    collector = OutputCollector(20_000_000)
    for _ in range(200):
        collector.add(stream("x" * 50_000))
    collector.add(stream("\rdone"))
    assert decoded(collector)[0]["text"] == "done"
    assert time.monotonic() - begun < 5


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
    assert len(told.value) == 10_000
    assert "\0" not in told.value
    assert sum(map(len, told.traceback)) == 100_000
    assert error_text({}).name == "Error"


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
