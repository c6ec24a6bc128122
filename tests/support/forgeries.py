"""True and false bundles, and what ``verify.py`` has to say of each."""

from __future__ import annotations

import base64
import copy
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from support import forging
from support.forging import (
    LOG,
    ORIGIN,
    POLICY,
    Line,
    bundle,
    canonical,
    checkpoint,
    event,
    history,
    key,
    recompute,
    summed,
    when,
)

NO_WITNESS: Final = f"log {LOG}\nquorum none\n"


class Forgery(msgspec.Struct):
    """A bundle, what somebody holds, whom they trust, and what is to be said.

    ``said`` is all that is printed, with ``{}`` where the bundle is; ``policy`` None is the one of
    the bundle.
    """

    name: str
    files: dict[str, bytes]
    said: str
    held: Sequence[bytes] = ()
    policy: str | None = POLICY
    zipped: bool = False


def right(
    events: int, *, of: int = 0, erased: int = 0, unsalted: int = 0, at: str = "", **more: Any
) -> str:
    """What is said where nothing is wrong."""
    part = "" if not of else " (a PART: what is left out does not show)"
    deletion = ""
    if erased:
        deletion = f"('{uuid.UUID(int=51)}', 7, 15, '{when(70)}', 'user-7')\n"
    return (
        f"nothing is wrong: {events} of {of or events} events of {ORIGIN}{part}\n"
        f"cosigned at {at or 'NO KNOWN TIME'}\n"
        f"{unsalted} NOT PROVED, of before salts; {erased} erased, by these:\n"
        f"{deletion}{more.get('end', '')}\n"
    )


def wrong(where: str, what: str) -> str:
    return f"WRONG: {where}: {what}"


def line_is(number: int, what: str) -> str:
    return wrong(f"events.jsonl, line {number}", what)


def cosigned_at(seconds: float) -> str:
    return when(seconds)[:19].replace("T", " ") + "+00:00"


def entries(lines: Sequence[Line]) -> list[bytes]:
    return [canonical(line["entry"]) for line in lines]


TREE: Final = "the entry is not in the tree"
ORDER: Final = "it is out of order"
OLDER: Final = "it is older than the event before it"
CHAIN: Final = "the event does not match its chain"
TIMES: Final = "its time is not between those of the checkpoints around it"
GONE: Final = "the data is gone, and nothing erased it"
FORM: Final = "it is not written as it must be"
REWRITTEN: Final = "the log does not begin with what was signed here"
UNSIGNED: Final = "it is not signed by a key of its log"
FEW: Final = "too few witnesses have cosigned it"
BASE: Final = right(20, erased=5, at=cosigned_at(200))


def changed(number: int, name: str, value: Any) -> list[Line]:
    """The history with something else in a member of a line, or of its entry."""
    lines = history()
    line = lines[number]
    (line["entry"] if name in line["entry"] and name not in {"data", "metadata"} else line)[
        name
    ] = value
    return lines


def forgeries() -> Iterator[Forgery]:
    """All of them."""
    yield from true_ones()
    yield from false_notes()
    yield from false_trees()
    yield from false_members()
    yield from false_orders()
    yield from false_times()
    yield from false_texts()
    yield from false_files()


def true_ones() -> Iterator[Forgery]:
    yield Forgery("whole", bundle(history()), BASE)
    yield Forgery("zipped", bundle(history()), BASE, zipped=True)
    own = right(20, erased=5, at=cosigned_at(200), end="with the bundle's OWN KEYS")
    yield Forgery("its own policy", bundle(history()), own, policy=None)
    for count in (1, 255, 256, 257, 513):
        yield Forgery(
            f"{count} events",
            bundle(history(count)),
            right(count, erased=5 if count > 7 else 0, at=cosigned_at(10 * count)),
        )
    lines = history()
    shown = [line for line in lines if line["entry"]["stream"] == lines[3]["entry"]["stream"]]
    said = right(7, of=20, at=cosigned_at(200))
    yield Forgery("one stream", bundle(lines, whole=False, shown=shown), said)
    said = right(4, of=20, at=cosigned_at(200))
    yield Forgery("begun late", bundle(lines, whole=False, shown=shown[3:]), said)
    context = copy.deepcopy(lines[7]) | {"context": True}
    shown = [lines[1], context, lines[13]]
    shown[2] = copy.deepcopy(lines[13])
    yield Forgery(
        "a deletion beside it",
        bundle(lines, whole=False, shown=[lines[1], lines[4], context]),
        right(3, of=20, erased=3, at=cosigned_at(200)),
    )
    yield Forgery(
        "two deletions beside it",
        bundle(lines, whole=False, shown=[lines[1], {**lines[4], "context": True}, context]),
        right(3, of=20, erased=3, at=cosigned_at(200)),
    )
    told = b"what was printed"
    name = forging.hashlib.sha256(told).hexdigest()
    lines = history()
    lines[0] |= {"data": json.dumps({"digest": name}), "artifacts": [name]}
    recompute(lines)
    more = {f"artifacts/{name}": told}
    yield Forgery("artifact", bundle(lines, more=more), BASE)
    lines = history()
    for line in lines[:9:3]:
        line["entry"] |= {"data": None, "metadata": None, "chain": None}
        line |= {"salt": None, "metadataSalt": None}
    recompute(lines)
    lines[9]["entry"]["chain"] = "ab" * 32
    for line in lines[12::3]:
        line["entry"]["chain"] = ""
    recompute(lines, digests=False)
    yield Forgery("old", bundle(lines), right(20, erased=5, unsalted=3, at=cosigned_at(200)))
    lines = history()
    lines[7]["metadata"] = json.dumps({"actor": "user-7"})
    yield Forgery("deleted by its actor", bundle(recompute(lines)), BASE)
    for kind in ("dataset", "library"):
        lines = history()
        lines[7]["entry"]["type"] = f"{kind}.deleted.v12"
        yield Forgery(f"deleted {kind}", bundle(recompute(lines)), BASE)


def false_notes() -> Iterator[Forgery]:
    lines = history()
    whole, all_entries = bundle(lines), entries(lines)
    end = {"w1": 200, "w2": 205}
    none = right(20, erased=5)
    yield Forgery(
        "no witness is needed",
        whole | summed({**whole, "checkpoint": checkpoint(all_entries)}),
        none,
        policy=NO_WITNESS,
    )
    newest = right(20, erased=5, at=cosigned_at(205))
    witnessed = f"log {LOG}\nwitness a {key('w1')}\nwitness b {key('w2')} https://b\nquorum none\n"
    yield Forgery("a witness is not needed", whole, newest, policy=witnessed)
    for quorum, at in (
        ("group q any a b\nquorum q\n", 205),
        ("group q all a b\nquorum q\n", 200),
        ("group q 1 a b\nquorum q\n", 205),
        ("quorum a\n", 200),
        ("group p any a\ngroup q all p b\nquorum q\n", 200),
    ):
        policy = witnessed.replace("quorum none\n", quorum)
        yield Forgery(quorum, whole, right(20, erased=5, at=cosigned_at(at)), policy=policy)
    for name, told, policy, what in (
        ("not cosigned", checkpoint(all_entries), POLICY, FEW),
        ("cosigned by one", checkpoint(all_entries, {"w1": 200}), POLICY, FEW),
        ("cosigned by a stranger", checkpoint(all_entries, {"w1": 200, "w9": 1}), POLICY, FEW),
        ("unsigned", checkpoint(all_entries, end, log=""), POLICY, UNSIGNED),
        ("signed by others", checkpoint(all_entries, end, log="other"), POLICY, UNSIGNED),
        ("of another log", checkpoint(all_entries, end, origin="other"), POLICY, UNSIGNED),
        ("no note", b"nothing\n", POLICY, UNSIGNED),
        ("text before", b"\n" + checkpoint(all_entries, end), POLICY, UNSIGNED),
        ("text after", checkpoint(all_entries, end) + b"\n", POLICY, UNSIGNED),
        ("no known quorum", checkpoint(all_entries, end), POLICY + "quorum q\n", "'q'"),
        (
            "of no entries",
            checkpoint(all_entries, end).replace(b"\n20\n", b"\n0\n"),
            POLICY,
            UNSIGNED,
        ),
        (
            "another size",
            checkpoint(all_entries, end).replace(b"\n20\n", b"\n21\n"),
            POLICY,
            "InvalidSignature",
        ),
        (
            "too old",
            checkpoint(all_entries, end),
            "# maximum-age 60\n" + POLICY,
            "it is older than 60 seconds",
        ),
    ):
        files = summed({**whole, "checkpoint": told})
        yield Forgery(name, files, wrong("{}/checkpoint", what), policy=policy)
    young = "#\tmaximum-age 9999999999 \n" + POLICY
    yield Forgery("not too old", whole, BASE, policy=young)
    untimed = "# maximum-age 60\n" + NO_WITNESS
    yield Forgery(
        "of no known age",
        summed({**whole, "checkpoint": checkpoint(all_entries)}),
        none,
        policy=untimed,
    )
    rotated = bundle(lines, log="old")
    yield Forgery("an older key", rotated, BASE)
    # A time that the log's own signature seems to have is none.
    note = checkpoint(all_entries).decode()
    head, signature = note.rstrip("\n").rsplit(" ", 1)
    raw = base64.b64decode(signature)
    raw = raw[:4] + (2**40).to_bytes(8, "big") + raw[4:]
    note = f"{head} {base64.b64encode(raw).decode()}\n"
    files = summed({**whole, "checkpoint": note.encode()})
    yield Forgery("a time of its own", files, none, policy=NO_WITNESS)
    # Cosignatures are of one time and one text.
    for name, told in (
        ("another time", {"w1": 200, "w2": 205}),
        ("another text", {"w1": 200, "w2": 205}),
    ):
        note = checkpoint(all_entries, told).decode()
        if name == "another text":
            size = checkpoint(all_entries[:19], told).decode().split("\n\n")
            note = note.split("\n\n")[0] + "\n\n" + size[1]
        else:
            head, signature = note.rstrip("\n").rsplit(" ", 1)
            raw = bytearray(base64.b64decode(signature))
            raw[11] ^= 1
            note = f"{head} {base64.b64encode(raw).decode()}\n"
        files = summed({**whole, "checkpoint": note.encode()})
        yield Forgery(name, files, wrong("{}/checkpoint", "InvalidSignature"))
    extended = Forgery("further lines", whole, BASE)
    yield extended


def false_trees() -> Iterator[Forgery]:
    lines = history(300)
    said = right(300, erased=5, at=cosigned_at(3000))
    earlier = [
        checkpoint(entries(lines[:size]), {"w1": 10 * size, "w2": 10 * size})
        for size in (1, 255, 256, 257)
    ]
    earlier.append(checkpoint(entries(lines[:8])))
    yield Forgery("held", bundle(lines), said, held=earlier)
    inside = {f"checkpoints/{len(told)}": told for told in earlier}
    yield Forgery("checkpoints", bundle(lines, more=inside), said)
    part = bundle(lines, whole=False, shown=lines[290::3])
    yield Forgery("held of a part", part, right(4, of=300, at=cosigned_at(3000)), held=earlier)
    end = wrong("{}/held-0", "it has 300 entries, and the log ends after 299")
    held = [checkpoint(entries(lines))]
    yield Forgery("cut off", bundle(lines[:299]), end, held=held)
    other = copy.deepcopy(lines)
    other[280]["data"] = "{}"
    recompute(other)
    for size in (281, 300):
        held = [earlier[0], checkpoint(entries(other[:size]))]
        yield Forgery(
            f"rewritten at {size}", bundle(lines), wrong("{}/held-1", REWRITTEN), held=held
        )
    other[3]["data"] = "{}"
    recompute(other)
    told = {"checkpoints/8": checkpoint(entries(other[:8]))}
    yield Forgery(
        "rewritten before", bundle(lines, more=told), wrong("{}/checkpoints/8", REWRITTEN)
    )
    foreign = checkpoint(entries(lines[:8]), origin="elsewhere", log="log")
    policy = POLICY + f"log {forging.signer('log').key('elsewhere').encoded}\n"
    yield Forgery(
        "held of another log",
        bundle(lines),
        wrong("{}/held-0", "it is of another log"),
        held=[foreign],
        policy=policy,
    )
    unsigned = checkpoint(entries(lines[:8]), log="other")
    yield Forgery("held of nobody", bundle(lines), wrong("{}/held-0", UNSIGNED), held=[unsigned])
    files = bundle(lines)
    for name, place, what in (
        ("tile/0/001.p/44", 31, wrong("{}/checkpoint", REWRITTEN)),
        ("tile/1/000.p/1", 0, wrong("{}/checkpoint", REWRITTEN)),
        ("tile/0/000", 8191, line_is(1, "tile 0/0 is not what the one above it says")),
        ("tile/entries/000", 40, line_is(256, "tile/entries differs")),
        ("tile/entries/001.p/44", 5, line_is(300, "tile/entries differs")),
    ):
        raw = bytearray(files[name])
        raw[place] ^= 1
        yield Forgery(f"flipped {name}", summed({**files, name: bytes(raw)}), what)
    raw = files["tile/0/000"]
    short = summed({**files, "tile/0/000": raw[:-32]})
    yield Forgery("short tile", short, line_is(1, "tile 0/0 is not what the one above it says"))
    long = summed({**files, "tile/0/000": raw + raw[:32]})
    yield Forgery("long tile", long, line_is(1, "tile 0/0 is not what the one above it says"))
    longer = summed({**files, "tile/0/000": raw + b"?"})
    yield Forgery("longer tile", longer, line_is(1, "tile 0/0 is not what the one above it says"))
    double = summed({**files, "tile/0/000": raw + raw})
    yield Forgery("double tile", double, line_is(1, "tile 0/0 is not what the one above it says"))


def false_members() -> Iterator[Forgery]:
    """Each member of an entry, altered: alone, and with everything computed anew and signed."""
    for name, value in history()[10]["entry"].items():
        other = {"number": 11, "v": 2, "version": value}.get(name)
        if name == "version":
            other = 7
        elif other is None:
            other = value + 1 if isinstance(value, int) else _other(name, value)
        lines = history()
        shown = copy.deepcopy(lines)
        shown[10]["entry"][name] = other
        what = "list index out of range" if name == "number" and other > 20 else TREE
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
        return (
            value.replace("Z", "Z").replace("00:01", "00:00", 1) if "00:01" in value else when(99)
        )
    if name == "type":
        return "other.thing.v1"
    return ("0" if value[0] != "0" else "1") + value[1:]


def false_orders() -> Iterator[Forgery]:
    lines = history()
    yield Forgery(
        "left out",
        bundle(lines, shown=lines[:4] + lines[5:]),
        line_is(5, "version 3 of its stream is missing")
        if False
        else line_is(7, "version 2 of its stream is missing"),
    )
    yield Forgery(
        "left out at the end",
        bundle(lines, shown=lines[:19]),
        line_is(19, "entries are missing after it"),
    )
    single = recompute([event(n, n, 1) for n in range(12)])
    yield Forgery(
        "left out of others",
        bundle(single, shown=single[:4] + single[5:]),
        line_is(11, "tile/entries differs"),
    )
    swapped = [*lines[:4], lines[5], lines[4], *lines[6:]]
    yield Forgery("exchanged", bundle(lines, shown=swapped), line_is(6, ORDER))
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
        line_is(4, "version 1 of its stream is missing"),
    )


def false_times() -> Iterator[Forgery]:
    lines = history()
    for name, size, at, said in (
        ("after", 8, 140, BASE),
        ("long after", 8, 141, line_is(9, TIMES)),
        ("before", 8, 10, BASE),
        ("long before", 8, 9, line_is(8, TIMES)),
        ("at the end", 20, 130, BASE.replace("00:03:20", "00:03:20")),
        ("too early at the end", 20, 129, line_is(20, TIMES)),
    ):
        held = [checkpoint(entries(lines[:size]), {"w1": at, "w2": at})]
        yield Forgery(f"cosigned {name}", bundle(lines), said, held=held)
        more = {f"checkpoints/{size}": held[0]}
        yield Forgery(f"cosigned {name}, inside", bundle(lines, more=more), said)
    early = bundle(lines, cosigned={"w1": 129, "w2": 129})
    yield Forgery("an early checkpoint", early, line_is(20, TIMES))
    two = [
        checkpoint(entries(lines[:size]), {"w1": at, "w2": at})
        for size, at in ((12, 110), (4, 101))
    ]
    yield Forgery("two that are held", bundle(lines), line_is(5, TIMES), held=two)


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
    raw = base64.b64decode(lines[11]["salt"])
    for moved in (15, 17):
        whole = raw + data.encode()
        if moved == 15 and raw[15] > 127:
            continue
        try:
            text = whole[moved:].decode()
        except UnicodeDecodeError:
            continue
        salt = base64.b64encode(whole[:moved]).decode()
        yield Forgery(f"salt of {moved}", shown(11, salt=salt, data=text), line_is(12, another))
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
    yield Forgery("no data", shown(11, data=None, salt=None), line_is(12, "'erased'"))
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
    yield Forgery(
        "an artifact that is missing",
        shown(11, artifacts=["n"]),
        line_is(12, "artifact n is missing"),
    )
    name = "ab" * 32
    more = bundle(
        lines,
        shown=[*lines[:11], {**lines[11], "artifacts": [name]}, *lines[12:]],
        more={f"artifacts/{name}": b""},
    )
    yield Forgery("an artifact that is not named", more, line_is(12, f"artifact {name} is missing"))


def false_files() -> Iterator[Forgery]:
    lines = history()
    files = bundle(lines)

    def with_events(told: bytes) -> dict[str, bytes]:
        return summed({**files, "events.jsonl": told})

    told = files["events.jsonl"]
    for name, other in (
        ("a blank", told.replace(b',"data":', b', "data":', 1)),
        ("escaped", told.replace("ö".encode(), b"\\u00f6", 1)),
        ("twice a member", told.replace(b',"data":', b',"data":1,"data":', 1)),
        ("no line feed", told[:-1]),
        (
            "another order of the entry",
            told.replace(b'"v":1,"version":1}', b'"version":1,"v":1}', 1),
        ),
        ("the entry at the end", b""),
    ):
        if not other:
            first = json.loads(told.split(b"\n")[0])
            entry = first.pop("entry")
            moved = json.dumps({**first, "entry": entry}, ensure_ascii=False, separators=(",", ":"))
            other = moved.encode() + b"\n" + told.split(b"\n", 1)[1]
        at = 20 if name == "no line feed" else 1
        yield Forgery(name, with_events(other), line_is(at, FORM))
    yield Forgery(
        "a missing tile",
        summed({n: f for n, f in files.items() if n != "tile/0/000.p/20"}),
        wrong("{}/checkpoint", "[Errno 2] No such file or directory: '{}/tile/0/000.p/20'"),
    )
    listed = {**files, "README": b"more"}
    yield Forgery("a file more", listed, wrong("SHA256SUMS", "it lists other files"))
    yield Forgery(
        "a file less",
        {n: f for n, f in files.items() if n != "policy"},
        wrong("SHA256SUMS", "it lists other files"),
    )
    yield Forgery(
        "another file", {**files, "policy": b"other"}, wrong("policy", "SHA256SUMS differs")
    )
    yield Forgery(
        "a false artifact",
        bundle(lines, more={f"artifacts/{'ab' * 32}": b"x"}),
        wrong(f"artifacts/{'ab' * 32}", "it is not named so"),
    )
    yield Forgery(
        "no policy",
        {n: f for n, f in files.items() if n != "policy"},
        wrong("the bundle", "[Errno 2] No such file or directory: '{}/policy'"),
        policy=None,
    )
