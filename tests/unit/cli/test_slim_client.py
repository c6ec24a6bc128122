"""A client starts with the packages of requirements/client.txt alone."""

from __future__ import annotations

import re
import subprocess
import sys

from support.paths import ROOT

PROGRAM = """
import importlib
import pkgutil
import sys

allowed = set(sys.argv.pop().split()) | sys.stdlib_module_names


class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(name, name=name)


sys.meta_path.insert(0, Lacking())

import nbledger_client

for module in pkgutil.walk_packages(nbledger_client.__path__, "nbledger_client."):
    importlib.import_module(module.name)
allowed |= {"nbledger", "nbledger_domain", "nbledger_infrastructure"}
from nbledger.main import main

main(["--help"], standalone_mode=False)
"""


def test_a_client_imports_what_it_is_installed_with_and_nothing_of_servers() -> None:
    locked = (ROOT / "requirements" / "client.txt").read_text()
    packages = {each.replace("-", "_") for each in re.findall(r"(?m)^([a-z0-9-]+)==", locked)}
    allowed = " ".join({*packages, "nbledger_client"})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, allowed],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
