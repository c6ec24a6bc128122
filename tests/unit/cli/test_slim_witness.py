"""A witness starts with the packages of requirements/witness.txt alone."""

from __future__ import annotations

import re
import subprocess
import sys

from support.paths import ROOT

PROGRAM = """
import sys

allowed = set(sys.argv.pop().split()) | sys.stdlib_module_names
allowed |= {"nbledger", "nbledger_audit", "nbledger_domain", "nbledger_infrastructure"}


class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(name, name=name)


sys.meta_path.insert(0, Lacking())

import nbledger_audit.witness.server
from nbledger.main import main

for asked in (["--help"], ["witness", "--help"]):
    main(asked, standalone_mode=False)
main(["witness", "key", "/nowhere"])
"""


def test_a_witness_imports_what_it_is_installed_with() -> None:
    locked = (ROOT / "requirements" / "witness.txt").read_text()
    packages = {*re.findall(r"(?m)^([a-z0-9-]+)==", locked)}
    assert packages == {"cffi", "click", "cryptography", "h11", "msgspec", "pycparser", "structlog"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, " ".join({*packages, "_cffi_backend"})],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "Error: /nowhere/name: No such file or directory\n",
    )
    assert re.search(r"(?m)^  witness ", done.stdout)
    assert not re.search(r"(?m)^  token ", done.stdout)
