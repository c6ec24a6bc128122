"""Running ``verify.py``, or a mutant of it, on bundles that are on the disk."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Final

import msgspec
from support.forgeries import Forgery
from support.forging import write

from nbledger_audit.bundles import verify

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
        return self.path.encode()

bundle = Bundle.__new__(Bundle)
bundle.root, bundle.size = Root(), 400_000_050
for place in ((0, 7), (0, 999), (0, 1_000), (0, 1_034_567), (0, 1_562_500), (1, 6_103), (2, 23)):
    print(bundle.read("entries", *place).decode())
"""
PATHS_SAID: Final = """\
tile/entries/007
tile/entries/999
tile/entries/x001/000
tile/entries/x001/x034/567
tile/entries/x001/x562/500.p/50
tile/entries/x006/103.p/132
tile/entries/023.p/215
"""


def probes() -> list[Prepared]:
    """What is asked of the program beside bundles: nothing happens when it is imported."""
    return [
        Prepared("imported", Path(), [], "", probe="\n"),
        Prepared("paths", Path(), [], PATHS_SAID, probe=PATHS),
    ]


def prepare(forgery: Forgery, folder: Path) -> Prepared:
    """Write a bundle, and what goes with it, to a new folder."""
    folder.mkdir()
    path = write(forgery.files, folder / "bundle", zipped=forgery.zipped)
    arguments = [str(path)]
    if forgery.policy is not None:
        (folder / "policy").write_text(forgery.policy)
        arguments += ["--policy", str(folder / "policy")]
    for at, told in enumerate(forgery.held):
        (path.parent / f"held-{at}").write_bytes(told)
        arguments += ["--held", str(path.parent / f"held-{at}")]
    said = forgery.said.replace("{}/held", f"{folder}/held").replace("{}", str(path))
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
