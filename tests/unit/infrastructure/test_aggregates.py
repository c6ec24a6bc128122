"""Whoever reads events back knows all of their types, whatever else it has imported."""

import json
import subprocess
import sys

_KNOWN = """
import importlib, json, pkgutil
import nbledger_infrastructure.aggregates
from nbledger_domain import __name__ as name, __path__ as path
from nbledger_domain.events import EVENT_TYPES
known = sorted(EVENT_TYPES.classes)
for module in pkgutil.walk_packages(path, f"{name}."):
    importlib.import_module(module.name)
print(json.dumps([known, sorted(EVENT_TYPES.classes)]))
"""


def test_every_event_can_be_read_back() -> None:
    told = subprocess.run([sys.executable, "-P", "-c", _KNOWN], capture_output=True, check=True)
    known, there_are = json.loads(told.stdout)
    assert "history.read.v1" in there_are
    assert known == there_are
