"""Guards over the repository itself: layout, locks, layers that no linter covers."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import PROJECT, ROOT

PACKAGES = [
    ROOT / package for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
]
LOCKS = sorted(
    [*(ROOT / "requirements").glob("*.txt"), *(ROOT / "examples").rglob("requirements.txt")]
)
RUNTIME_LOCKS = ("client", "core", "witness", "api", "worker")

# Put together from parts, or this file would be its own first finding.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("anaconda", "org"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("docker", "io"),
        ("proxy", "golang", "org"),
        ("repo1", "maven", "org"),
        ("repo", "maven", "apache", "org"),
    )
]


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = (ROOT / name for name in listing.split("\0") if name)
    return [path for path in paths if path.is_file()]


def pins(lock: Path) -> list[Requirement]:
    """The requirements a lock file pins, each once per platform it differs on."""
    joined = lock.read_text().replace("\\\n", " ")
    lines = (line.split(" --hash=")[0].strip() for line in joined.splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "path",
    [
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "Makefile",
        "compose.yaml",
        "Dockerfile",
        ".ci/run",
        "domain",
        "infrastructure",
        "application",
        "projections",
        "audit",
        "workers",
        "http",
        "cli",
        "schemas",
        "client",
        "sdk",
        "tests/unit",
        "tests/integration",
        "tests/acceptance",
        "tests/crash",
        "benchmarks",
        "examples/consumers",
        "docs",
    ],
)
def test_top_level_path_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_source_root_holds_typed_packages_and_is_none_itself(package: Path) -> None:
    root = package.parent
    assert not (root / "__init__.py").exists()
    assert {path.parent for path in root.glob("*/__init__.py")} <= set(PACKAGES)
    assert (package / "py.typed").exists()


def test_tools_know_every_source_root() -> None:
    roots = {package.parent.name for package in PACKAGES}
    tool = PROJECT["tool"]
    assert sorted(tool["hatch"]["build"]["dev-mode-dirs"]) == sorted(roots)
    assert roots <= set(tool["mypy"]["files"])
    assert roots <= set(tool["pyright"]["include"])
    assert sorted(tool["importlinter"]["root_packages"]) == sorted(p.name for p in PACKAGES)


def test_domain_imports_only_the_standard_library_and_pure_libraries() -> None:
    pure = {"nbledger_domain", "cronsim", "eventsourcing", "msgspec"}
    allowed = sys.stdlib_module_names | pure
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
        for path in (ROOT / "domain").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "nbledger_domain"]
        )
        if name.split(".")[0] not in allowed
    ]
    assert found == []


def test_no_tracked_file_names_a_package_registry() -> None:
    pattern = re.compile("|".join(re.escape(host) for host in REGISTRY_HOSTS).encode())
    named = [
        str(path.relative_to(ROOT)) for path in tracked_files() if pattern.search(path.read_bytes())
    ]
    assert named == []


def test_no_lock_file_of_a_format_that_records_addresses() -> None:
    forbidden = re.compile(
        r"^(uv\.lock|pylock.*\.toml|poetry\.lock|pdm\.lock|Pipfile\.lock"
        r"|package-lock\.json|yarn\.lock|pnpm-lock\.yaml)$"
    )
    assert [path for path in tracked_files() if forbidden.match(path.name)] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: f"{lock.parent.name}-{lock.stem}")
def test_lock_pins_every_package_by_hash_and_names_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"://|file:|\s@\s|^-", text, re.MULTILINE)
    entries = [
        entry for entry in text.replace("\\\n", " ").splitlines() if not entry.startswith("#")
    ]
    assert entries
    for entry in entries:
        assert re.match(
            r"^[a-z0-9._-]+(\[[a-z0-9,_-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", entry
        )


@pytest.mark.parametrize("role", RUNTIME_LOCKS)
def test_role_lock_is_a_part_of_the_whole_lock(role: str) -> None:
    whole = {(pin.name, str(pin.specifier)) for pin in pins(ROOT / "requirements/lock.txt")}
    part = {(pin.name, str(pin.specifier)) for pin in pins(ROOT / f"requirements/{role}.txt")}
    assert part
    assert part <= whole


def test_api_lock_holds_no_kernel() -> None:
    names = {pin.name for pin in pins(ROOT / "requirements/api.txt")}
    assert not names & {"ipykernel", "ipython", "jupyter-client", "nbclient", "pandas", "pyzmq"}


def required(*extras: str) -> list[str]:
    """What the project needs with these extras, and with those that they name."""
    found: dict[str, None] = dict.fromkeys(PROJECT["project"]["dependencies"])
    waiting, seen = list(extras), set[str]()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for item in PROJECT["project"]["optional-dependencies"][extra]:
            if Requirement(item).name == "nbledger":
                waiting += Requirement(item).extras
            else:
                found[item] = None
    return list(found)


def test_a_client_installs_nothing_of_servers() -> None:
    locked = {pin.name for pin in pins(ROOT / "requirements/client.txt")}
    servers = {Requirement(each).name for each in required("api", "worker", "embedded", "kernel")}
    asked = {Requirement(each).name for each in required("client")}
    assert not (servers - asked) & (locked - {"h11", "httpcore"}), "what httpx itself needs aside"


def test_the_extra_for_everything_has_everything() -> None:
    assert sorted(required("all")) == sorted(required(*PROJECT["project"]["optional-dependencies"]))


def test_locks_satisfy_the_project() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = {
        "setup": PROJECT["dependency-groups"]["build"],
        "client": required("client"),
        "core": required("core"),
        "witness": required("witness"),
        "api": required("api"),
        "worker": required("worker", "kernel"),
        "lock": required(*extras),
        "dev": [item for item in PROJECT["dependency-groups"]["dev"] if isinstance(item, str)],
    }
    unmet: list[str] = []
    for name, requirements in wanted.items():
        locked: dict[str, list[str]] = {}
        for pin in pins(ROOT / f"requirements/{name}.txt"):
            version = str(pin.specifier).removeprefix("==")
            locked.setdefault(canonicalize_name(pin.name), []).append(version)
        for requirement in map(Requirement, requirements):
            versions = locked.get(canonicalize_name(requirement.name), [])
            if not versions or not all(map(requirement.specifier.contains, versions)):
                unmet.append(f"{name}.txt: {requirement} against {versions}")
    assert unmet == []


def test_every_make_target_is_documented() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE))
    documented = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert targets == documented
    assert {"help", "demo", "up", "test", "test-kafka", "check", "bench", "kafka"} <= targets


MOST_MODULES = 15
MOST_LINES = 400
LONGER: dict[str, int] = {}
"""Modules that are longer all the same, each with the most lines that it may have."""


def test_rooms_are_small_enough_to_be_looked_over() -> None:
    rooms = Counter(path.parent for path in modules() if path.name != "__init__.py")
    crowded = {
        str(room.relative_to(ROOT)): count for room, count in rooms.items() if count > MOST_MODULES
    }
    assert crowded == {}


def test_modules_are_short() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    long = {name: count for name, count in lines.items() if count > MOST_LINES}
    assert {name for name, count in long.items() if count > LONGER.get(name, 0)} == set()
    assert LONGER.keys() <= long.keys(), "what is short now needs no exception"


def modules() -> list[Path]:
    """Every module of the program."""
    return [path for package in PACKAGES for path in package.rglob("*.py")]
