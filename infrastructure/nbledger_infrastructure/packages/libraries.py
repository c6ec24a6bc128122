"""Custom libraries: those that come with the service, and those in a folder of the operator."""

import hashlib
import importlib.util
from pathlib import Path
from typing import Final

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

PROVIDED: Final = ("mindzie_sdk", "process_mining_utils")
"""What every Python kernel can import of the service's own."""


class Libraries:
    """Libraries by the names that notebooks know them by.

    ``folder`` holds wheels, packages (folders with an ``__init__.py``) and single modules; of
    several wheels of one name the newest counts. Without a folder there are only those that the
    service brings.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else None

    def find(self, name: str) -> Path | None:
        """Where the library lies in the folder."""
        return self._all().get(_normal(name))

    def is_known(self, name: str) -> bool:
        """Whether it comes with the service or lies in the folder."""
        return comes_with_service(name) or self.find(name) is not None

    def names(self) -> list[str]:
        """Every library there is."""
        return sorted({*PROVIDED, *self._all()})

    def _all(self) -> dict[str, Path]:
        if self._folder is None or not self._folder.is_dir():
            return {}
        found: dict[str, Path] = {}
        wheels: dict[str, tuple[Version, Path]] = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix == ".whl":
                try:
                    name, version, *_ = parse_wheel_filename(path.name)
                except InvalidWheelFilename:
                    continue
                known = wheels.get(name)
                if known is None or version > known[0]:
                    wheels[name] = (version, path)
            elif (path / "__init__.py").is_file():
                found[_normal(path.name)] = path
            elif path.suffix == ".py" and path.is_file():
                found[_normal(path.stem)] = path
        found.update({_normal(name): path for name, (_, path) in wheels.items()})
        return found


def comes_with_service(name: str) -> bool:
    """Whether every Python kernel has it."""
    return _normal(name) in PROVIDED


def can_import(name: str) -> bool:
    """Whether this interpreter finds a module or package of this name, without importing it."""
    return _is_found(name) or _is_found(_normal(name))


def _is_found(name: str) -> bool:
    try:
        return name.isidentifier() and importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def digest(library: Path) -> str:
    """The SHA-256 over the names and contents of a library's files."""
    whole = hashlib.sha256()
    files = sorted(library.rglob("*")) if library.is_dir() else [library]
    for path in files:
        if path.is_file() and path.suffix != ".pyc":
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            whole.update(f"{path.relative_to(library.parent)}\0{content}\n".encode())
    return whole.hexdigest()


def _normal(name: str) -> str:
    return canonicalize_name(name.strip()).replace("-", "_")
