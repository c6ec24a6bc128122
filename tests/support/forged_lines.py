"""False bundles whose lines are altered, exchanged, left out or dated otherwise."""

from __future__ import annotations

import base64
import copy
import json
import uuid
from collections.abc import Iterator
from typing import Any

from support.forgeries import (
    BASE,
    BEFORE,
    CHAIN,
    CONTEXT,
    FORM,
    GONE,
    OLDER,
    ORDER,
    REWRITTEN,
    TREE,
    Forgery,
    changed,
    entries,
    line_is,
    wrong,
)
from support.forging import (
    bundle,
    checkpoint,
    event,
    history,
    recompute,
    summed,
    when,
    written,
)

from nbledger_domain.transparency import tiles


def forged_lines() -> Iterator[Forgery]:
    """All of them."""
    yield from false_members()
    yield from false_orders()
    yield from false_texts()
    yield from false_files()


def false_members() -> Iterator[Forgery]:
    """Each member of an entry, altered: alone, and with everything computed anew and signed."""
    for name, value in history()[10]["entry"].items():
        known: dict[str, Any] = {"number": 11, "position": value, "v": 2, "version": 7}
        other = value + 2 if name == "position" else known.get(name) or _other(name, value)
        lines = history()
        shown = copy.deepcopy(lines)
        shown[10]["entry"][name] = other
        what = TREE
        yield Forgery(f"{name} altered", bundle(lines, shown=shown), line_is(11, what))
        partial = bundle(lines, whole=False, shown=shown)
        yield Forgery(f"{name} altered in a part", partial, line_is(11, what))
        # With the log's key: whoever holds what was signed finds out.
        if name not in {"number", "v", "version", "tenant"}:
            again = copy.deepcopy(lines)
            again[10]["entry"][name] = other
            if name in {"data", "metadata"}:
                again[10][name] = "{}"
            if name != "chain":
                recompute(again, digests=name not in {"data", "metadata"})
            held = [checkpoint(entries(lines[:15]))]
            yield Forgery(
                f"{name} signed anew", bundle(again), wrong("{}/held-0", REWRITTEN), held=held
            )
    lines = history()
    lines[10]["entry"]["v"] = 2
    yield Forgery("another form", bundle(lines), line_is(11, "it is of another log"))
    lines = history()
    lines[10]["entry"]["tenant"] = str(uuid.UUID(int=9))
    yield Forgery("another tenant", bundle(recompute(lines)), line_is(11, "it is of another log"))


def _other(name: str, value: str) -> str:
    if name in {"recordedAt", "occurredAt"}:
        return when(99)
    if name == "type":
        return "other.thing.v1"
    return ("0" if value[0] != "0" else "1") + value[1:]


def false_orders() -> Iterator[Forgery]:
    lines = history()
    yield Forgery(
        "left out",
        bundle(lines, shown=lines[:4] + lines[5:]),
        line_is(5, BEFORE),
    )
    yield from omitted()
    yield Forgery(
        "left out at the end",
        bundle(lines, shown=lines[:19]),
        line_is(19, "entries are missing after it"),
    )
    single = recompute([event(n, n, 1) for n in range(12)])
    yield Forgery(
        "left out of others",
        bundle(single, shown=single[:4] + single[5:]),
        line_is(5, BEFORE),
    )
    swapped = [*lines[:4], lines[5], lines[4], *lines[6:]]
    yield Forgery("exchanged", bundle(lines, shown=swapped), line_is(5, BEFORE))
    part = bundle(lines, whole=False, shown=swapped)
    yield Forgery("exchanged in a part", part, line_is(6, ORDER))
    turned = changed(5, "position", lines[3]["entry"]["position"] + 1)
    shown = [*turned[:4], turned[5], turned[4], *turned[6:]]
    part = bundle(recompute(turned), whole=False, shown=shown)
    yield Forgery("exchanged where positions are, too", part, line_is(6, ORDER))
    yield Forgery("twice", bundle(lines, shown=[*lines[:5], *lines[4:]]), line_is(6, ORDER))
    yield Forgery(
        "twice in a part",
        bundle(lines, whole=False, shown=[*lines[:5], *lines[4:]]),
        line_is(6, ORDER),
    )
    for value in (lines[9]["entry"]["position"], lines[8]["entry"]["position"]):
        again = recompute(changed(10, "position", value))
        yield Forgery(f"position {value}", bundle(again), line_is(11, ORDER))
    again = recompute(changed(10, "recordedAt", when(89.999999)))
    yield Forgery("older", bundle(again), line_is(11, OLDER))
    again = recompute(changed(10, "recordedAt", when(90)))
    yield Forgery("as old", bundle(again), BASE)
    again = changed(10, "version", 7)
    yield Forgery(
        "a version too many",
        bundle(recompute(again)),
        line_is(11, "version 4 of its stream is missing"),
    )
    again = changed(0, "version", 2)
    yield Forgery(
        "no first version",
        bundle(recompute(again)),
        line_is(1, "version 1 of its stream is missing"),
    )
    again = recompute(changed(3, "version", 1))
    yield Forgery(
        "begun twice in a part",
        bundle(again, whole=False),
        line_is(4, "version 2 of its stream is missing"),
    )
    again = history()
    again[10]["entry"]["chain"] = "ab" * 32
    yield Forgery("another chain", bundle(again), line_is(11, CHAIN))
    again = history()
    again[0]["entry"]["chain"] = "ab" * 32
    yield Forgery("another first chain", bundle(again), line_is(1, CHAIN))
    yield Forgery("another first chain in a part", bundle(again, whole=False), line_is(1, CHAIN))
    for name in ("id", "subject", "project", "occurredAt", "recordedAt", "type"):
        again = history()
        value = again[10]["entry"][name]
        other = when(100.5) if name == "recordedAt" else _other(name, value)
        again[10]["entry"][name] = other
        yield Forgery(f"{name} beside its chain", bundle(again), line_is(11, CHAIN))
    context = [*lines[:3], {**lines[3], "context": True}, *lines[4:]]
    yield Forgery(
        "hidden as context",
        bundle(lines, shown=context),
        line_is(4, CONTEXT),
    )


def omitted() -> Iterator[Forgery]:
    """Whole bundles whose entries are those of the lines, with events left out of both."""
    for name, count, left, first in (
        ("a stream", 20, range(2, 20, 3), 2),
        ("the last of a stream", 20, [18], 18),
        ("all but the last of a stream", 513, range(2, 512, 3), 2),
        ("the first", 300, [0], 0),
    ):
        lines = history(count)
        shown = [line for number, line in enumerate(lines) if number not in left]
        files = bundle(lines)
        for at in range(0, count, 256):
            part = [line for line in shown if line["entry"]["number"] // 256 == at // 256]
            name_of = tiles.index_path(at // 256, min(256, count - at))
            files[f"tile/entries/{name_of}"] = tiles.bundle(entries(part))
        files["events.jsonl"] = b"".join(written(line) for line in shown)
        yield Forgery(f"{name} left out", summed(files), line_is(first + 1, BEFORE))


def false_texts() -> Iterator[Forgery]:
    lines = history()

    def shown(number: int, **changes: Any) -> dict[str, bytes]:
        return bundle(
            lines, shown=[*lines[:number], {**lines[number], **changes}, *lines[number + 1 :]]
        )

    zeros = base64.b64encode(bytes(16)).decode()
    another, no_metadata = "the data has another digest", "the metadata has another digest"
    # Line 12 (number 11) has data: stream 2 is not erased.
    data = lines[11]["data"]
    yield Forgery("other data", shown(11, data=data + " "), line_is(12, another))
    yield Forgery("other salt", shown(11, salt=zeros), line_is(12, another))
    yield Forgery("other metadata", shown(11, metadata="{}"), line_is(12, no_metadata))
    yield Forgery("other metadata salt", shown(11, metadataSalt=zeros), line_is(12, no_metadata))
    yield Forgery("other metadata of erased", shown(10, metadata="{}"), line_is(11, no_metadata))
    yield Forgery("exchanged data", shown(11, data=lines[14]["data"]), line_is(12, another))
    ascii_salt = base64.b64encode(b"sixteen letters!").decode()
    again = history()
    again[11]["salt"] = ascii_salt
    recompute(again)
    told = {
        **again[11],
        "salt": base64.b64encode(b"sixteen letters").decode(),
        "data": "!" + again[11]["data"],
    }
    files = bundle(again, shown=[*again[:11], told, *again[12:]])
    yield Forgery("salt of fifteen", files, line_is(12, another))
    yield Forgery("no data", shown(11, data=None, salt=None), line_is(12, GONE))
    yield Forgery("no data, null", shown(11, data=None, salt=None, erased=None), line_is(12, GONE))
    erased = lines[10]["erased"]
    forged = shown(11, data=None, salt=None, erased=erased)
    subject = lines[11]["entry"]["subject"]
    tuple_ = (subject, *erased.values())
    yield Forgery(
        "erased by another's deletion",
        forged,
        wrong("events.jsonl, line 20", f"no event is {{{{{tuple_!r}}}}}"),
    )
    yield Forgery("erased and there", shown(11, erased=erased), line_is(12, GONE))
    salt = lines[11]["salt"]
    what = line_is(12, "Only base64 data is allowed")
    yield Forgery("salt with blanks", shown(11, salt=f"{salt[:4]} !{salt[4:]}"), what)
    no_number = _not_json(float("nan"))
    yield Forgery("not a number", shown(11, more=float("nan")), line_is(12, no_number))
    again = history()
    again[11]["entry"]["more"] = float("nan")
    yield Forgery("not a number in an entry", bundle(again), line_is(12, no_number))
    again = history()
    again[7]["entry"]["stream"] = str(uuid.UUID(int=77))
    one = (again[1]["entry"]["subject"], *again[1]["erased"].values())
    part = bundle(recompute(again), whole=False, shown=[again[1], again[7]])
    what = wrong("events.jsonl, line 2", f"no event is {{{{{one!r}}}}}")
    yield Forgery("erased by a deletion of another stream", part, what)
    kept = shown(10, salt=lines[11]["salt"])
    yield Forgery("a salt that is left", kept, line_is(11, GONE))
    for name, value in (("number", 4), ("position", 3), ("at", when(1)), ("by", "another")):
        told_erased = {**erased, name: value}
        one = (lines[10]["entry"]["subject"], *told_erased.values())
        what = wrong("events.jsonl, line 20", f"no event is {{{{{one!r}}}}}")
        yield Forgery(f"erased {name}", shown(10, erased=told_erased), what)
    for type_ in (
        "schedule.deleted.v1",
        "notebook.deleted.v1x",
        "a.notebook.deleted.v1",
        "notebook.deletedxv1",
        "notebookxdeleted.v1",
    ):
        again = history()
        again[7]["entry"]["type"] = type_
        one = (again[1]["entry"]["subject"], *again[1]["erased"].values())
        what = wrong("events.jsonl, line 20", f"no event is {{{{{one!r}}}}}")
        yield Forgery(f"erased by {type_}", bundle(recompute(again)), what)


def false_files() -> Iterator[Forgery]:
    lines = history()
    files = bundle(lines)

    def with_events(told: bytes) -> dict[str, bytes]:
        return summed({**files, "events.jsonl": told})

    told = files["events.jsonl"]
    first = json.loads(told.split(b"\n")[0])
    entry = first.pop("entry")
    moved = json.dumps({**first, "entry": entry}, ensure_ascii=False, separators=(",", ":"))
    for name, other in (
        ("a blank", told.replace(b',"data":', b', "data":', 1)),
        ("escaped", told.replace("ö".encode(), b"\\u00f6", 1)),
        ("twice a member", told.replace(b',"data":', b',"data":1,"data":', 1)),
        ("another order", told.replace(b'"v":1,"version":1}', b'"version":1,"v":1}', 1)),
        ("the entry at the end", moved.encode() + b"\n" + told.split(b"\n", 1)[1]),
    ):
        yield Forgery(name, with_events(other), line_is(1, FORM))
    yield Forgery("no line feed", with_events(told[:-1]), line_is(20, FORM))


def _not_json(value: float) -> str:
    """What this version of Python says of a number that JSON has not."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        return str(error)
    raise AssertionError(value)
