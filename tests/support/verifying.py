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


def said(code: CodeType, arguments: list[str]) -> str:
    """What the program prints when it is run, on whichever way."""
    out = io.StringIO()
    with _arguments(arguments), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            exec(code, {"__name__": "__main__"})  # noqa: S102 (the program, or a mutant of it)
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
