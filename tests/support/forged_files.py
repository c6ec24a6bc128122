"""Bundles with files that no bundle has, lacks, or has in another form."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from support.forgeries import BASE, NAMED, Forgery, cosigned_at, not_checked, right, wrong
from support.forging import LINK, bundle, history, summed

TWICE = "it is there twice"
SUMS = "SHA256SUMS has another digest of it, or none"
FOLDER = stat.S_IFDIR | 0o755
FILE = stat.S_IFREG | 0o644


def forged_files() -> Iterator[Forgery]:
    """All of them."""
    yield from unlisted()
    yield from in_archives()
    yield from stamped()


def unlisted() -> Iterator[Forgery]:
    """What SHA256SUMS does not list, or lists otherwise."""
    files = bundle(history())
    tile = "tile/0/000.p/20"
    yield Forgery(
        "a missing tile",
        summed({n: f for n, f in files.items() if n != tile}),
        not_checked("{}/checkpoint", f"[Errno 2] No such file or directory: '{{}}/{tile}'"),
    )
    yield Forgery("a file more", {**files, "README": b"more"}, wrong("README", SUMS))
    yield Forgery(
        "a file less",
        {n: f for n, f in files.items() if n != "policy"},
        wrong("tile/entries/000.p/20", "SHA256SUMS lists what is not there"),
    )
    yield Forgery("another file", {**files, "policy": b"other"}, wrong("policy", SUMS))
    yield Forgery(
        "a false artifact",
        bundle(history(), more={f"artifacts/{'ab' * 32}": b"x"}),
        wrong(f"artifacts/{'ab' * 32}", "it is not named so"),
    )
    flipped = bytearray(files["tile/entries/000.p/20"])
    flipped[40] ^= 1
    yield Forgery(
        "flipped entries",
        {**files, "tile/entries/000.p/20": bytes(flipped)},
        wrong("tile/entries/000.p/20", SUMS),
    )
    yield Forgery(
        "no policy",
        {n: f for n, f in files.items() if n != "policy"},
        not_checked("the bundle", "[Errno 2] No such file or directory: '{}/policy'"),
        policy=None,
    )


def in_archives() -> Iterator[Forgery]:
    """Members of a ZIP that would be unpacked elsewhere, over others, or as links."""
    files = bundle(history())
    folders = [(name, b"", FOLDER) for name in ("tile/", "tile/0/")]
    yield Forgery("zipped", files, BASE, zipped=True)
    yield Forgery("zipped with folders", files, BASE, zipped=True, extra=folders)
    for name in (
        *("../policy", "/policy", "tile/../policy", "tile/..", "./policy", "tile//0", "..\\policy"),
        *("C:policy", "a b", "ä", ".policy", "tile/.policy", "a\n"),
    ):
        said = wrong(name.removesuffix("\0"), NAMED)
        yield Forgery(f"zipped {name!r}", files, said, zipped=True, extra=[(name, b"", FILE)])
    for name, mode in (("policy", FILE), ("checkpoint", 0)):
        extra = [(name, files[name], mode)]
        yield Forgery(f"two of {name}", files, wrong(name, TWICE), zipped=True, extra=extra)
    more = [("README", b"more", FILE)]
    yield Forgery("one more", files, wrong("README", SUMS), zipped=True, extra=more)
    link = [("README", b"policy", LINK)]
    for zipped in (True, False):
        said = wrong("README", NAMED)
        yield Forgery(f"a link, {zipped}", files, said, zipped=zipped, extra=link)
    link = [("README", b"tile", LINK)]
    yield Forgery("a link to a folder", files, wrong("README", NAMED), extra=link)
    hidden = [(".README", b"", FILE)]
    yield Forgery("hidden", files, wrong(".README", NAMED), extra=hidden)
    yield Forgery(
        "no ZIP",
        {},
        not_checked("the bundle", "[Errno 2] No such file or directory: '{}'"),
    )


def stamped() -> Iterator[Forgery]:
    """Timestamps are not read, and told."""
    names = ("checkpoint.tsr", "checkpoints/8.last.tsr")
    files = bundle(history(), more=dict.fromkeys(reversed(names), b"stamp"))
    told = "NOT CHECKED, but by VERIFY.md: openssl ts -verify -in {} -data ..."
    said = right(20, erased=5, at=cosigned_at(200))
    said += "".join(f"{told.format(name)}\n" for name in names)
    yield Forgery("stamped", files, said)
