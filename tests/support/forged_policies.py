"""Policies that do not say whom to trust, say it twice, or trust what is not known here."""

from __future__ import annotations

from collections.abc import Iterator

from support.forgeries import (
    BASE,
    FEW,
    UNSIGNED,
    Forgery,
    cosigned_at,
    entries,
    not_checked,
    right,
    wrong,
)
from support.forging import LOG, POLICY, bundle, checkpoint, history, key, signer, summed

from nbledger_domain.transparency.notes import ML_DSA_44, Key, Signature

AGAIN = "it says again what is said above"
UNDEFINED = "a name is not defined above"
UNREAD = "no policy has such a line"
FEW_MEMBERS = "it has too few members"
NO_QUORUM = "no quorum is there, of known kinds of keys"
GROUP = "group two 2 w1 w2 w3"
PQ = Key("pq", ML_DSA_44, bytes(1312))


def forged_policies() -> Iterator[Forgery]:
    """All of them."""
    files = bundle(history())
    for name, line, told, what in (*said_again(), *undefined(), *unread()):
        said = not_checked(f"{{policy}}, line {line}", what)
        yield Forgery(f"policy: {name}", files, said, policy=told)
    own = summed({**files, "policy": f"{POLICY}logs\n".encode()})
    said = not_checked("{}/policy, line 11", UNREAD)
    yield Forgery("policy: its own", own, said, policy=None)
    yield from read()
    yield from of_unknown_kinds()


def said_again() -> Iterator[tuple[str, int, str, str]]:
    """What is there twice."""
    w1 = key("w1")
    for name, line, told in (
        ("two quorums", 11, f"{POLICY}quorum two"),
        ("a quorum and none", 11, f"{POLICY}quorum none"),
        ("a member twice", 8, POLICY.replace(GROUP, "group two 1 w1 w2 w1")),
        ("a member of two", 9, POLICY.replace(GROUP, f"group one any w1\n{GROUP}")),
        ("none as member", 8, POLICY.replace(GROUP, "group two 2 w1 none")),
        ("two names of a key", 8, POLICY.replace(GROUP, f"witness w0 {w1}")),
        ("two vkeys of a key", 8, POLICY.replace(GROUP, f"witness w0 w0{w1[2:]}")),
        ("two keys of a name", 11, f"{POLICY}witness w1 {key('w9')}"),
        ("a group named as a witness", 11, f"{POLICY}group w1 any two"),
        ("a group twice", 11, f"{POLICY}group two any two"),
        ("a witness named none", 1, f"witness none {w1}\nquorum none"),
        ("a log twice", 11, f"{POLICY}log {LOG}"),
        ("two ages", 2, f"# maximum-age 9\n#maximum-age 10\n{POLICY}"),
        (
            "two kinds of a key",
            8,
            POLICY.replace(GROUP, f"witness w {signer('w1').key('w').encoded}"),
        ),
    ):
        what = FEW_MEMBERS if name == "a member twice" else AGAIN
        yield name, line, told, what


def undefined() -> Iterator[tuple[str, int, str, str]]:
    """What names others that are not there, or too few."""
    yield "another quorum", 10, POLICY.replace("quorum two", "quorum q"), UNDEFINED
    yield "a quorum above its group", 1, f"quorum two\n{POLICY}", UNDEFINED
    yield "an unknown member", 8, POLICY.replace("w1 w2 w3", "w1 w4"), UNDEFINED
    yield "a quorum and a sign", 10, POLICY.replace("quorum two", "quorum two~"), UNDEFINED
    yield "a group of itself", 8, POLICY.replace("w1 w2 w3", "w1 two"), UNDEFINED
    yield "four of three", 8, POLICY.replace("two 2", "two 4"), FEW_MEMBERS
    yield "no quorum", 2, f"log {LOG}\n", NO_QUORUM
    yield "nothing", 1, "", NO_QUORUM


def unread() -> Iterator[tuple[str, int, str, str]]:
    """Lines that no policy has."""
    for name, told in (
        ("an unknown word", "logs x"),
        ("a word alone", "quorum"),
        ("a log of more", f"log {LOG} https://a b"),
        ("a witness without key", "witness w4"),
        ("a witness of more", f"witness w4 {key('w4')} https://a b"),
        ("a key without number", "log name+key"),
        ("a key of a longer number", "log name+0123456789+AA=="),
        ("none of two", GROUP.replace("2", "0", 1)),
        ("a number with a sign", GROUP.replace("2", "+2", 1)),
        ("a number of others", GROUP.replace("2", "\u0662", 1)),
        ("a word for a number", GROUP.replace("2", "some", 1)),
        ("a group of nobody", "group g all"),
        ("two names of a quorum", "quorum w1 w2"),
        ("another line end", "quorum w1\r"),
        ("a page's comment", "# maximum-age 60\r"),
        ("an age of 060", "# maximum-age 060"),
        ("an age in words", "# maximum-age: 60"),
        ("an age below zero", "# maximum-age -1"),
        ("no age", "#maximum-age"),
        ("an age of hours", "# maximum-age 60 s"),
    ):
        yield name, 11, f"{POLICY}{told}", UNREAD
    yield "a key that is none", 11, f"{POLICY}log a+01234567+AA", "Incorrect padding"
    short = Key("short", 1, bytes(31)).encoded
    what = "An Ed25519 public key is 32 bytes long"
    yield "a short key", 11, f"{POLICY}log {short}", what


def read() -> Iterator[Forgery]:
    """Policies in every form that there is."""
    files = bundle(history())
    nested = "group a 1 w1\ngroup b any a w2\ngroup two all b"
    blanks = POLICY.replace(" ", " \t ").replace("\n", "\t\n \t")
    comments = f"{POLICY}#\n # a comment\n#quorum w1\n\t# the maximum-age is 9"
    for name, told in (
        ("blanks", blanks),
        ("comments", comments),
        ("no line end", POLICY.rstrip()),
        ("a long age", f" #\t maximum-age 2000000000 \n{POLICY}"),
    ):
        yield Forgery(f"policy with {name}", files, BASE, policy=told)
    said = right(20, erased=5, at=cosigned_at(205))
    yield Forgery("policy with groups", files, said, policy=POLICY.replace(GROUP, nested))


def of_unknown_kinds() -> Iterator[Forgery]:
    """Keys of algorithms that are not read are passed over, and their signatures with them."""
    lines = history()
    files = bundle(lines)
    unread_line = Signature("pq", PQ.key_id, bytes(2428)).line.encode()
    cosigned = summed({**files, "checkpoint": files["checkpoint"] + unread_line})
    witness = f"witness pq {PQ.encoded}\n"
    known = POLICY.replace("group", f"{witness}group")
    yield Forgery("another kind of key", cosigned, BASE, policy=known)
    alike = (Key(name, ML_DSA_44, bytes([at, *bytes(1311)])) for at, name in enumerate("ab"))
    others = "".join(f"witness {each.name} {each.encoded}\n" for each in alike)
    yield Forgery("keys that are alike", files, BASE, policy=others + POLICY)
    with_it = known.replace("w1 w2 w3", "w1 w2 pq")
    yield Forgery("another kind of key as member", cosigned, BASE, policy=with_it)
    note = checkpoint(entries(lines), {"w1": 200})
    one = summed({**files, "checkpoint": note + unread_line})
    what = wrong("{}/checkpoint", FEW)
    yield Forgery("another kind of key does not count", one, what, policy=with_it)
    log = f"log {Key('pq', ML_DSA_44, bytes(1312)).encoded}\n"
    yield Forgery("another kind of log's key", files, BASE, policy=log + POLICY)
    for name, told in (
        ("the quorum itself", f"log {LOG}\n{witness}quorum pq\n"),
        ("needed", known.replace(GROUP, "group two all w1 pq")),
        ("a log's kind", f"log {LOG}\nwitness w {signer('w1').key('w1').encoded}\nquorum w\n"),
    ):
        line = len(told.split("\n"))
        said = not_checked(f"{{policy}}, line {line}", NO_QUORUM)
        yield Forgery(f"another kind of key: {name}", cosigned, said, policy=told)
    none = f"log {LOG}\n{witness}quorum none\n"
    said = right(20, erased=5)
    yield Forgery("another kind of key, and none is needed", cosigned, said, policy=none)
    # A witness's kind of key is no log's: what it signs is not signed by the log.
    unsigned = wrong("{}/checkpoint", UNSIGNED)
    told = f"log {key('w1')}\nquorum none\n"
    yield Forgery("a witness's key as a log's", files, unsigned, policy=told)
