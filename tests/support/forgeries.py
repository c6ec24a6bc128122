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
    history,
    key,
    recompute,
    summed,
    when,
)

from nbledger_domain.transparency import merkle
from nbledger_domain.transparency.notes import COSIGNATURE

NO_WITNESS: Final = f"log {LOG}\nquorum none\n"


class Forgery(msgspec.Struct):
    """A bundle, what somebody holds, whom they trust, and what is to be said.

    ``said`` is all that is printed, with ``{}`` where the bundle is and ``{policy}`` where the
    policy is; ``policy`` None is the one of the bundle. ``extra`` has more members by name, content
    and mode: ``forging.LINK`` is a symbolic link to its content.
    """

    name: str
    files: dict[str, bytes]
    said: str
    held: Sequence[bytes] = ()
    policy: str | None = POLICY
    zipped: bool = False
    extra: Sequence[tuple[str, bytes, int]] = ()


def right(
    events: int, *, of: int = 0, erased: int = 0, unsalted: int = 0, at: str = "", **more: Any
) -> str:
    """What is said where nothing is wrong."""
    part = "" if not of else " (a PART: what is left out does not show)"
    deletion = ""
    if erased:
        deletion = f"('{uuid.UUID(int=101)}', 7, 15, '{when(70)}', 'user-7')\n"
    return (
        f"nothing is wrong: {events} of {of or events} events of {ORIGIN}{part}\n"
        f"cosigned at {at or 'NO KNOWN TIME'}\n"
        f"{more.get('late', 0)} streams begin LATE, {more.get('absent', 0)} artifacts are ABSENT\n"
        f"{unsalted} NOT PROVED, without salt; {erased} erased, by these:\n"
        f"{deletion}{more.get('end', '')}\n"
    )


def wrong(where: str, what: str) -> str:
    return f"WRONG: {where}: {what}\nstatus 1"


def not_checked(where: str, what: str) -> str:
    return f"NOT CHECKED: {where}: {what}\nstatus 2"


def line_is(number: int, what: str) -> str:
    return wrong(f"events.jsonl, line {number}", what)


def cosigned_at(seconds: float) -> str:
    return when(seconds)[:19].replace("T", " ") + "+00:00"


def entries(lines: Sequence[Line]) -> list[bytes]:
    return [canonical(line["entry"]) for line in lines]


NAMED: Final = "it is a link, or not named as files are"
NO_DIGESTS: Final = "it has no digests"
CONTEXT: Final = "it must not have context"
BEFORE: Final = "entries are missing before it"
TREE: Final = "the entry is not in the tree"
ORDER: Final = "it is out of order"
OLDER: Final = "it is older than the event before it"
CHAIN: Final = "the event does not match its chain"
TIMES: Final = "outside times deny its date"
GONE: Final = "nothing erased the data"
FORM: Final = "it is not written as it must be"
REWRITTEN: Final = "the log does not begin with what was signed here"
FALSE: Final = "it is not as it must be: InvalidSignature()"
NO_NOTE: Final = "it is no checkpoint"
UNSIGNED: Final = "it is not signed by a key of its log"
OLD: Final = "it is too old"
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
    said = right(0, of=20, at=cosigned_at(200))
    yield Forgery("no event", bundle(lines, whole=False, shown=[]), said)
    shown = [line for line in lines if line["entry"]["stream"] == lines[3]["entry"]["stream"]]
    said = right(7, of=20, at=cosigned_at(200))
    yield Forgery("one stream", bundle(lines, whole=False, shown=shown), said)
    said = right(4, of=20, late=1, at=cosigned_at(200))
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
        "a deletion behind a gap",
        bundle(lines, whole=False, shown=[lines[1], context]),
        right(2, of=20, erased=2, at=cosigned_at(200)),
    )
    for other in (False, "true"):
        shown = [lines[1], lines[4], context, {**lines[9], "context": other}]
        files = bundle(lines, whole=False, shown=shown)
        yield Forgery(f"context that is {other!r}", files, line_is(4, CONTEXT))
    lines = history()
    lines[7]["metadata"] = json.dumps({"actor": "user-7"})
    yield Forgery("deleted by its actor", bundle(recompute(lines)), BASE)
    for kind in ("dataset", "library", "webhook"):
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
        ("no note", b"nothing\n", POLICY, NO_NOTE),
        ("text before", b"\n" + checkpoint(all_entries, end), POLICY, NO_NOTE),
        ("text after", checkpoint(all_entries, end) + b"\n", POLICY, NO_NOTE),
        (
            "of no entries",
            checkpoint(all_entries, end).replace(b"\n20\n", b"\n0\n"),
            POLICY,
            NO_NOTE,
        ),
        (
            "another size",
            checkpoint(all_entries, end).replace(b"\n20\n", b"\n21\n"),
            POLICY,
            FALSE,
        ),
        (
            "too old",
            checkpoint(all_entries, end),
            "# maximum-age 60\n" + POLICY,
            OLD,
        ),
    ):
        files = summed({**whole, "checkpoint": told})
        yield Forgery(name, files, wrong("{}/checkpoint", what), policy=policy)
    young = "#\tmaximum-age 2000000000 \n" + POLICY
    yield Forgery("not too old", whole, BASE, policy=young)
    untimed = "# maximum-age 60\n" + NO_WITNESS
    yield Forgery(
        "of no known age",
        summed({**whole, "checkpoint": checkpoint(all_entries)}),
        wrong("{}/checkpoint", OLD),
        policy=untimed,
    )
    elsewhere = forging.signer("another").key("elsewhere").encoded
    another = checkpoint(all_entries, end, log="another", name="elsewhere")
    by_another = summed({**whole, "checkpoint": another})
    policy = f"log {elsewhere}\n{POLICY}"
    yield Forgery("another log's key", by_another, wrong("{}/checkpoint", UNSIGNED), policy=policy)
    rotated = bundle(lines, log="old")
    yield Forgery("an older key", rotated, BASE)
    # Whoever has the name of the log is not the log.
    text = checkpoint(all_entries, log="").decode().rstrip("\n") + "\n"
    line = forging.signer("w1").cosign(ORIGIN, text, forging.unix(200)).line
    named = forging.signer("w1").key(ORIGIN, COSIGNATURE).encoded
    files = summed({**whole, "checkpoint": f"{text}\n{line}".encode()})
    policy = f"log {LOG}\nwitness w {named}\nquorum w\n"
    said = wrong("{}/checkpoint", UNSIGNED)
    yield Forgery("cosigned by one of the log's name", files, said, policy=policy)
    # A time that the log's own signature seems to have is none.
    signed = checkpoint(all_entries).decode()
    head, signature = signed.rstrip("\n").rsplit(" ", 1)
    raw = base64.b64decode(signature)
    raw = raw[:4] + (2**40).to_bytes(8, "big") + raw[4:]
    signed = f"{head} {base64.b64encode(raw).decode()}\n"
    files = summed({**whole, "checkpoint": signed.encode()})
    yield Forgery("a time of its own", files, none, policy=NO_WITNESS)
    # Cosignatures are of one time and one text.
    times = {"w1": 200, "w2": 205}
    signed, other = (checkpoint(each, times).decode() for each in (all_entries, all_entries[:19]))
    of_another_text = signed.split("\n\n")[0] + "\n\n" + other.split("\n\n")[1]
    head, signature = signed.rstrip("\n").rsplit(" ", 1)
    later = bytearray(base64.b64decode(signature))
    later[11] ^= 1
    of_another_time = f"{head} {base64.b64encode(later).decode()}\n"
    for forged in (of_another_text, of_another_time):
        files = summed({**whole, "checkpoint": forged.encode()})
        yield Forgery("cosignature", files, wrong("{}/checkpoint", FALSE))


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
    said = right(4, of=300, late=1, at=cosigned_at(3000))
    yield Forgery("held of a part", part, said, held=earlier)
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
    foreign = checkpoint(entries(lines[:8]), origin="elsewhere", log="another")
    policy = POLICY + f"log {forging.signer('another').key('elsewhere').encoded}\n"
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
    above, width = "tile 0/0 is not what the one above it says", "the tile has another width"
    for name, place, what in (
        ("tile/0/001.p/44", 31, wrong("{}/checkpoint", REWRITTEN)),
        ("tile/1/000.p/1", 0, wrong("{}/checkpoint", REWRITTEN)),
        ("tile/0/000", 8191, line_is(1, above)),
    ):
        raw = bytearray(files[name])
        raw[place] ^= 1
        yield Forgery(f"flipped {name}", summed({**files, name: bytes(raw)}), what)
    full = files["tile/0/000"]
    for tile in (full[:-32], full + full[:32], full + b"?", full + full):
        false = summed({**files, "tile/0/000": tile})
        yield Forgery(f"tile of {len(tile)}", false, line_is(1, width))
    edge = files["tile/0/001.p/44"]
    for tile in (edge[:-32], edge + bytes(1), edge + bytes(32)):
        false = summed({**files, "tile/0/001.p/44": tile})
        what = wrong("{}/checkpoint", "the tile has another width")
        yield Forgery(f"last tile of {len(tile)}", false, what)
    # Events that are in no tree: behind the right edge, or in a tile that the tree does not have.
    yield from invented(history())


def invented(lines: list[Line]) -> Iterator[Forgery]:
    """Events of numbers that the log does not have, in parts whose tiles have their hashes."""
    for number in (20, 256):
        forged = recompute([forging.event(number, 9, 1)])[0]
        false = bundle(lines, whole=False, shown=[lines[0], forged])
        yield Forgery(f"numbered {number}", false, line_is(2, TREE))
    for number, path, wide in (
        (20, "tile/0/000.p/20", 20),
        (21, "tile/0/000.p/20", 20),
        (300, "tile/0/001.p/-236", 0),
    ):
        forged = recompute([forging.event(number, 9, 1)])[0]
        false = bundle(lines, whole=False, shown=[lines[0], forged])
        hashes = (false.get(path, b"") + bytes(32 * 44))[: 32 * ((number & 255) or wide)]
        false[path] = hashes + merkle.leaf_hash(canonical(forged["entry"]))
        what = wrong("{}/checkpoint", "the tile has another width") if wide else wrong(path, NAMED)
        yield Forgery(f"invented {number}", summed(false), what)
