"""Bundles whose events are dated otherwise than witnesses have seen their log.

In each history event number n was recorded 10 n seconds after the start; the skew is 60 seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from support.forgeries import BASE, TIMES, Forgery, cosigned_at, entries, line_is, right
from support.forging import LOG, POLICY, bundle, checkpoint, history, key

Seen = Mapping[int, Mapping[str, float]]
"""When witnesses have cosigned the first so many entries."""

WITNESSES = "".join(f"witness {name} {key(name)}\n" for name in ("w1", "w2", "w3"))
QUORUMS = {
    "two": POLICY,
    "any": f"log {LOG}\n{WITNESSES}group g any w1 w2 w3\nquorum g\n",
    "all": f"log {LOG}\n{WITNESSES}group g all w1 w2\nquorum g\n",
    "one": f"log {LOG}\n{WITNESSES}quorum w1\n",
    "nested": f"log {LOG}\n{WITNESSES}group a any w1 w2\ngroup b all a w3\nquorum b\n",
    "none": f"log {LOG}\n{WITNESSES}quorum none\n",
}


def both(at: float) -> dict[str, float]:
    return {"w1": at, "w2": at}


def forged_times() -> Iterator[Forgery]:
    """All of them."""
    yield from at_the_bounds()
    yield from late_ones()
    yield from by_quorums()
    yield from far_ones()


def at_the_bounds() -> Iterator[Forgery]:
    lines = history()
    for name, size, at, said in (
        ("after", 8, 140, BASE),
        ("long after", 8, 141, line_is(9, TIMES)),
        ("before", 8, 10, BASE),
        ("long before", 8, 9, line_is(8, TIMES)),
        ("at the end", 20, 130, BASE),
        ("too early at the end", 20, 129, line_is(20, TIMES)),
    ):
        held = [checkpoint(entries(lines[:size]), both(at))]
        yield Forgery(f"cosigned {name}", bundle(lines), said, held=held)
        more = {f"checkpoints/{size}": held[0]}
        yield Forgery(f"cosigned {name}, inside", bundle(lines, more=more), said)
    early = bundle(lines, cosigned=both(129))
    yield Forgery("an early checkpoint", early, line_is(20, TIMES))


def timed(name: str, seen: Seen, said: str, *, quorum: str = "two", end: float = 0) -> Forgery:
    """A whole history, which witnesses have cosigned at its end, and as somebody holds it."""
    lines = history()
    held = [checkpoint(entries(lines[:size]), times) for size, times in seen.items()]
    files = bundle(lines, cosigned=both(end) if end else None)
    return Forgery(f"times: {name}", files, said, held=held, policy=QUORUMS[quorum])


def late_ones() -> Iterator[Forgery]:
    """What is cosigned after more was says nothing of what came behind it."""
    wrong = line_is(5, TIMES)
    # The quorum had cosigned the end by 205.
    yield timed("as late as the end", {4: both(205)}, wrong)
    yield timed("after the end", {4: both(206)}, BASE)
    yield timed("days after the end", {4: both(10**6)}, BASE)
    yield timed("by one in time", {4: {"w1": 101, "w2": 10**6}}, BASE)
    yield timed("by two in time", {4: {"w1": 101, "w2": 101, "w3": 10**6}}, wrong)
    yield timed("by two too late", {4: {"w1": 101, "w2": 10**6, "w3": 10**6}}, BASE)
    # Whoever has come by once more does not take back that it had been there.
    lines = history()
    held = [checkpoint(entries(lines[:4]), both(at)) for at in (101, 10**6)]
    for order in (held, held[::-1]):
        yield Forgery("times: again, late", bundle(lines), wrong, held=order)
    held = [checkpoint(entries(lines[:4]), both(at)) for at in (30, 101)]
    for order in (held, held[::-1]):
        yield Forgery("times: again, at rest", bundle(lines), wrong, held=order)
    held = [checkpoint(entries(lines[:4]), {name: 101}) for name in ("w1", "w2")]
    yield Forgery("times: of two notes", bundle(lines), wrong, held=held)
    # Late by what was cosigned between, not by the end.
    yield timed("late by another", {4: both(141), 8: both(140)}, BASE)
    yield timed("not late by another", {4: both(140), 8: both(140)}, wrong)
    yield timed("late by a third", {4: both(141), 8: both(150), 12: both(140)}, BASE, end=200)
    few: Seen = {4: both(141), 8: {"w1": 140}}
    yield timed("not late by a few", few, wrong)
    nobody: Seen = {4: both(141), 8: {}}
    yield timed("late by nobody", nobody, wrong)


def by_quorums() -> Iterator[Forgery]:
    """From below bounds when the quorum still saw it, from above when it first had."""
    behind, inside = line_is(5, TIMES), line_is(20, TIMES)
    apart = {"w1": 95, "w2": 101}
    for quorum, behind_found in (
        ("two", False),
        ("any", True),
        ("all", False),
        ("one", False),
        ("none", True),
    ):
        said = behind if behind_found else BASE
        if said == BASE and quorum == "none":
            said = right(20, erased=5, at=cosigned_at(205))
        yield timed(f"apart for {quorum}", {4: apart}, said, quorum=quorum)
    end = {20: {"w1": 129, "w2": 130}}
    for quorum, said in (
        ("two", BASE),
        ("any", inside),
        ("all", BASE),
        ("one", inside),
        ("none", inside),
    ):
        yield timed(f"early for {quorum}", end, said, quorum=quorum)
    yield timed("a third one early", {20: {"w1": 129, "w2": 130, "w3": 129}}, inside)
    times = {4: {"w1": 95, "w2": 101, "w3": 101}}
    yield timed("the newest of three", times, behind)
    yield timed("a few", {4: {"w1": 10**6, "w3": 1}, 8: {"w1": 9}}, BASE)


def far_ones() -> Iterator[Forgery]:
    """Not only the checkpoints next to an event bound its time."""
    lines = history()
    cases: tuple[tuple[str, int, Seen, bool], ...] = (
        # Next to it there is one that says less: of the quorum, two saw it late, two early.
        ("behind", 15, {4: both(211), 12: {"w1": 9, "w2": 500}}, False),
        ("behind, in time", 15, {4: both(210), 12: {"w1": 9, "w2": 500}}, True),
        ("inside", 5, {8: {"w1": 1, "w2": 500}, 12: {"w1": -11, "w2": -11}}, False),
        ("inside, in time", 5, {8: {"w1": 1, "w2": 500}, 12: {"w1": -10, "w2": -10}}, True),
        ("behind two", 15, {4: both(211), 8: both(9), 12: both(9)}, True),
        ("with one by nobody", 15, {4: both(211), 12: {}}, False),
    )
    for name, shown, times, said in cases:
        held = [checkpoint(entries(lines[:size]), at) for size, at in times.items()]
        files = bundle(lines, whole=False, shown=[lines[shown]], cosigned=both(1000))
        right_ = right(1, of=20, late=1, at=cosigned_at(1000))
        yield Forgery(f"far {name}", files, right_ if said else line_is(1, TIMES), held=held)
