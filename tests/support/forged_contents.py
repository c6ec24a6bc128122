"""Bundles whose events have no digests, and those whose data names artifacts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from support.forgeries import NO_DIGESTS, Forgery, cosigned_at, line_is, right
from support.forging import Line, bundle, history, recompute


def forged_contents() -> Iterator[Forgery]:
    """All of them."""
    yield from with_artifacts()
    yield from old_ones()


def with_artifacts() -> Iterator[Forgery]:
    """Artifacts are there, or told to be absent."""
    told = b"what was printed"
    name, other = hashlib.sha256(told).hexdigest(), "cd" * 32
    at = cosigned_at(200)

    def naming(data: Any) -> dict[str, bytes]:
        lines = history()
        lines[0] |= {"data": json.dumps(data), "artifacts": [name]}
        return bundle(recompute(lines), more={f"artifacts/{name}": told})

    nothing = [
        {"digest": other},
        {"digest": other.upper(), "size": 1},
        {"digest": other[1:], "size": 1},
        {"digest": f"{other}0", "size": 1},
        {"digest": other, "size": "1"},
        {"digest": [], "size": 1},
        {"digests": other, "size": 1},
        {"digest": other, "sizes": 1},
    ]
    for number, (data, absent) in enumerate(
        (
            ({"digest": name, "size": 16}, 0),
            ({"digest": other, "size": 0}, 1),
            ([{"a": [{"size": 1, "digest": name, "b": {"digest": other, "size": 2}}]}], 1),
            ([{"digest": each, "size": 1} for each in (other, "ef" * 32)], 2),
            (nothing, 0),
            ("digest", 0),
        )
    ):
        said = right(20, erased=5, absent=absent, at=at)
        yield Forgery(f"artifacts {number}", naming(data), said)
    lines = history()
    lines[0]["data"] = "text that is no JSON, and names nothing"
    yield Forgery("no JSON", bundle(recompute(lines)), right(20, erased=5, at=at))


def unsalted(lines: list[Line], numbers: Sequence[int]) -> list[Line]:
    """The lines, some of which were recorded without salt; later ones have chains of their own."""
    for number in numbers:
        lines[number]["entry"] |= {"data": None, "metadata": None, "chain": None}
        lines[number] |= {"salt": None, "metadataSalt": None}
    recompute(lines)
    for line in lines:
        # Nothing shows the chain value of an event that was recorded without salt.
        if line["entry"]["chain"] == "":
            line["entry"]["chain"] = "ab" * 32
            recompute(lines, digests=False)
    return lines


def old_ones() -> Iterator[Forgery]:
    """Events recorded without salt come before all others, and have no digest at all."""
    said = right(20, erased=5, unsalted=3, at=cosigned_at(200))
    yield Forgery("old", bundle(unsalted(history(), range(3))), said)
    said = right(20, erased=5, unsalted=20, at=cosigned_at(200))
    yield Forgery("all old", bundle(unsalted(history(), range(20))), said)
    for number in (3, 19):
        lines = unsalted(history(), [*range(2), number])
        yield Forgery(f"{number} as if old", bundle(lines), line_is(number + 1, NO_DIGESTS))
        shown = [*lines[2:3], lines[number]]
        part = bundle(lines, whole=False, shown=shown)
        yield Forgery(f"{number} as if old, in a part", part, line_is(2, NO_DIGESTS))
    for value in (None, ""):
        for name in ("data", "metadata", "chain"):
            lines = history()
            lines[0]["entry"][name] = value
            yield Forgery(f"no {name} ({value!r})", bundle(lines), line_is(1, NO_DIGESTS))
