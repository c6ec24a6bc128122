"""Running ``verify.py``, or a mutant of it, on bundles that are on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Final

import msgspec
from support.forgeries import Forgery
from support.forging import write

from nbledger_audit.bundles import verify
from nbledger_domain.transparency import merkle, tiles

SOURCE: Final = Path(verify.__file__)


class Prepared(msgspec.Struct):
    """A bundle that is written to the disk, and how ``verify.py`` is called for it."""

    name: str
    path: Path
    arguments: list[str]
    said: str
    probe: str = ""
    """What is run in the program instead of it, as if it was imported."""


PATHS: Final = """
class Root:
    def __truediv__(self, path):
        return Root(path)
    def __init__(self, path=""):
        self.path = path
    def read_bytes(self):
        raise OSError(self.path)

bundle = Bundle.__new__(Bundle)
bundle.root, bundle.size = Root(), 400_000_050
for place in ((0, 7), (0, 999), (0, 1_000), (0, 1_034_567), (0, 1_562_500), (1, 6_103), (2, 23)):
    try:
        bundle.tile(*place)
    except OSError as error:
        print(error)
"""
PATHS_SAID: Final = """\
tile/0/007
tile/0/999
tile/0/x001/000
tile/0/x001/x034/567
tile/0/x001/x562/500.p/50
tile/1/x006/103.p/132
tile/2/023.p/215
"""


LARGE: Final = """
from support.verifying import large_log

class Root:
    def __init__(self, files, path=""):
        self.files, self.path = files, path
    def __truediv__(self, path):
        return Root(self.files, path)
    def read_bytes(self):
        return self.files[self.path]

def opened(**altered):
    bundle = Bundle.__new__(Bundle)
    files, bundle.size, sizes = large_log()
    bundle.root = Root({**files, **altered})
    return bundle, sizes

bundle, sizes = opened()
print({size for size, root in sizes.items() if bundle.tree(0, size) != root})
for number in (0, 200, 256, 257):
    bundle.tile(0, number)
for level, number in ((0, 3), (0, 200), (0, 256), (1, 0)):
    name = f"tile/{level}/{number:03}"
    bundle, _ = opened(**{name: bytes(8192)})
    try:
        bundle.tile(level, number)
        print(name, "is taken")
    except ValueError as error:
        print(error)
"""
LARGE_SAID: Final = """\
set()
tile 0/3 is not what the one above it says
tile 0/200 is not what the one above it says
tile 0/256 is not what the one above it says
tile 1/0 is not what the one above it says
"""


LONG: Final = """
import tempfile

class File:
    def __truediv__(self, name):
        return self
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def open(self, mode):
        return self
    def read_bytes(self):
        return b""
    def read_text(self, encoding):
        return ""
    def readline(self, most):
        print(most, "bytes")
        return b""

with tempfile.TemporaryDirectory() as folder:
    bundle = Bundle(Path(folder))
bundle.root, bundle.quorum = File(), "none"
bundle.files = [("SHA256SUMS", False)]
bundle.checkpoint = lambda told: ("", 1, b"", [])
bundle.tree = lambda first, last: b""
bundle.check([])
"""
LONG_SAID: Final = "134217728 bytes\n"


@cache
def large_log() -> tuple[dict[str, bytes], int, dict[int, bytes]]:
    """Tiles of a log of three levels, its size, and the roots that it has had."""
    leaves = [hashlib.sha256(b"%d" % number).digest() for number in range(66_000)]
    kept = tiles.append({}, 0, leaves)
    roots = {
        size: tiles.proof_of((merkle.root(size),), kept)[0]
        for size in (1, 300, 40_000, 65_535, 65_536, 65_537, 65_793, 66_000)
    }
    files = {
        f"tile/{tile.level}/{tiles.index_path(tile.number, len(hashes) // 32)}": hashes
        for tile, hashes in kept.items()
    }
    return files, len(leaves), roots


def probes() -> list[Prepared]:
    """What is asked of the program beside bundles: nothing happens when it is imported."""
    return [
        Prepared("imported", Path(), [], "", probe="\n"),
        Prepared("paths", Path(), [], PATHS_SAID, probe=PATHS),
        Prepared("large", Path(), [], LARGE_SAID, probe=LARGE),
        Prepared("long lines", Path(), [], LONG_SAID, probe=LONG),
    ]


def prepare(forgery: Forgery, folder: Path) -> Prepared:
    """Write a bundle, and what goes with it, to a new folder."""
    folder.mkdir()
    path = write(forgery.files, folder / "bundle", zipped=forgery.zipped, extra=forgery.extra)
    arguments = [str(path)]
    if forgery.policy is not None:
        (folder / "policy").write_bytes(forgery.policy.encode())
        arguments += ["--policy", str(folder / "policy")]
    for at, told in enumerate(forgery.held):
        (path.parent / f"held-{at}").write_bytes(told)
        arguments += ["--held", str(path.parent / f"held-{at}")]
    said = forgery.said.replace("{}/held", f"{folder}/held").replace("{}", str(path))
    said = said.replace("{policy}", str(folder / "policy"))
    return Prepared(forgery.name, path, arguments, said.replace("{{", "{").replace("}}", "}"))


def said(code: CodeType, arguments: list[str], probe: str = "") -> str:
    """What the program prints when it is run, on whichever way."""
    names: dict[str, object] = {"__name__": "imported" if probe else "__main__"}
    out = io.StringIO()
    with _arguments(arguments), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            exec(code, names)  # noqa: S102 (the program, or a mutant of it)
            exec(probe, names)  # noqa: S102
        except SystemExit as ended:
            if isinstance(ended.code, str):
                return ended.code
            return f"{out.getvalue()}status {ended.code}"
    return out.getvalue()


@contextlib.contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = ["verify.py", *arguments]
    try:
        yield
    finally:
        sys.argv = before
