"""Outside times in ``verify.py``: no true history is accused, and each dated back is found."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.forged_times import QUORUMS
from support.forgeries import TIMES, Forgery, entries, line_is
from support.forging import Line, bundle, checkpoint, event, recompute, when
from support.verifying import SOURCE, prepare, said

PROGRAM: Final = compile(SOURCE.read_text(), str(SOURCE), "exec")
COUNT: Final = 7
SKEW: Final = 60
WITNESSES: Final = ("w1", "w2", "w3")
REACHED: Final[dict[str, Callable[[set[str]], bool]]] = {
    "two": lambda by: len(by) >= 2,
    "any": lambda by: len(by) >= 1,
    "all": lambda by: {"w1", "w2"} <= by,
    "one": lambda by: "w1" in by,
    "nested": lambda by: bool({"w1", "w2"} & by) and "w3" in by,
    "none": lambda by: len(by) >= 1,
}
Seen = Sequence[tuple[int, str, int]]
"""Which witness has cosigned how many entries when."""


def history(times: Sequence[float]) -> list[Line]:
    lines = [event(n, n % 3, n // 3 + 1) for n in range(len(times))]
    for line, at in zip(lines, times, strict=True):
        line["entry"]["recordedAt"] = when(at)
    return recompute(lines)


def told(lines: list[Line], seen: Seen, quorum: str) -> str:
    """What is said of a history, of which each cosignature is held as a note of its own."""
    held = [checkpoint(entries(lines[:size]), {by: at}) for size, by, at in seen]
    files = bundle(lines, cosigned=dict.fromkeys(WITNESSES, 10**6))
    folder = Path(tempfile.mkdtemp())
    try:
        forgery = Forgery("it", files, "", held=held, policy=QUORUMS[quorum])
        return said(PROGRAM, prepare(forgery, folder / "it").arguments)
    finally:
        shutil.rmtree(folder)


def first_accused(times: Sequence[float], seen: Seen, quorum: str) -> int | None:
    """The first event whose date outside times deny, by the rule in docs/proofs.md."""
    reached = REACHED[quorum]
    every = [*seen, *((len(times), by, 10**6) for by in WITNESSES)]

    def first(size: int) -> float:
        """Since when a quorum had cosigned so many entries."""
        of = [(by, at) for each, by, at in every if each == size]
        whens = [t for _, t in of if reached({by for by, at in of if at <= t})]
        return min(whens, default=float("inf"))

    def last(size: int) -> float:
        """When a quorum still saw no more entries."""
        larger = min((first(each) for each, _, _ in every if each > size), default=float("inf"))
        of = [(by, at) for each, by, at in every if each == size and at <= larger]
        whens = [t for _, t in of if reached({by for by, at in of if at >= t})]
        return max(whens, default=float("-inf"))

    sizes = {size for size, _, _ in every}
    for number, at in enumerate(times):
        behind = (last(size) for size in sizes if size <= number)
        inside = (first(size) for size in sizes if size > number)
        if any(at < t - SKEW for t in behind) or any(at > t + SKEW for t in inside):
            return number
    return None


TIME: Final = st.integers(0, 40).map(lambda step: 20 * step)


@pytest.mark.guarantee("G55")
@settings(max_examples=40, deadline=None)
@given(
    times=st.lists(TIME, min_size=COUNT, max_size=COUNT).map(sorted),
    seen=st.lists(st.tuples(st.integers(1, COUNT), st.sampled_from(WITNESSES), TIME), max_size=9),
    quorum=st.sampled_from(sorted(QUORUMS)),
)
def test_outside_times_bound_as_the_rule_says(
    times: list[float], seen: list[tuple[int, str, int]], quorum: str
) -> None:
    accused = first_accused(times, seen, quorum)
    found = told(history(times), seen, quorum)
    if accused is None:
        assert found.startswith("nothing is wrong")
    else:
        assert found == line_is(accused + 1, TIMES)


@st.composite
def true_histories(
    draw: st.DrawFn, *, late: bool
) -> tuple[list[float], list[tuple[int, str, int]], str]:
    """What happens where nobody lies.

    Events are recorded by a clock that is up to 20 seconds wrong. Now and then the newest
    checkpoint is cosigned, up to 15 seconds later, by whichever witnesses are not away. Once a
    quorum has cosigned it, others may have older ones cosigned again, minutes or hours ``late``.
    """
    quorum = draw(st.sampled_from(sorted(QUORUMS)))
    seen: list[tuple[int, str, int]] = []
    times: list[float] = []
    now, sizes = 0.0, list[int]()
    while len(times) < COUNT:
        now += draw(st.sampled_from((1, 30, 600, 86_400)))
        clock = now + draw(st.integers(-20, 20))
        times.append(max(clock, *times[-1:], 0))
        if draw(st.booleans()):
            there: set[str] = draw(st.sets(st.sampled_from(WITNESSES)))
            seen += [(len(times), by, int(now) + draw(st.integers(0, 15))) for by in there]
            if late and REACHED[quorum](there) and draw(st.booleans()):
                then = int(now) + draw(st.sampled_from((60, 3600)))
                seen += [(size, by, then) for size in sizes for by in WITNESSES]
            sizes.append(len(times))
    return times, seen, quorum


@pytest.mark.guarantee("G55")
@settings(max_examples=40, deadline=None)
@given(true_histories(late=True))
def test_no_true_history_is_accused(
    made: tuple[list[float], list[tuple[int, str, int]], str],
) -> None:
    times, seen, quorum = made
    assert told(history(times), seen, quorum).startswith("nothing is wrong")


@pytest.mark.guarantee("G55")
@settings(max_examples=25, deadline=None)
@given(true_histories(late=False), st.data())
def test_whatever_is_dated_back_behind_a_checkpoint_is_found(
    made: tuple[list[float], list[tuple[int, str, int]], str], data: st.DataObject
) -> None:
    """An event, and with it those before, is dated before a quorum had seen the log without it."""
    times, seen, quorum = made
    sizes = {size for size, _, _ in seen if size < COUNT}
    since = {size: min(at for each, _, at in seen if each == size) for size in sizes}
    by = {size: {name for each, name, _ in seen if each == size} for size in sizes}
    behind = [size for size in sizes if REACHED[quorum](by[size]) and since[size] > SKEW]
    if behind:
        size = data.draw(st.sampled_from(behind))
        number = data.draw(st.integers(size, COUNT - 1))
        dated = data.draw(st.integers(0, since[size] - SKEW - 1))
        forged = [min(at, dated) if n <= number else at for n, at in enumerate(times)]
        assert told(history(forged), seen, quorum).endswith(f"{TIMES}\nstatus 1")
