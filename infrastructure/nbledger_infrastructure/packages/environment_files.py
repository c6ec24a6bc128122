"""Files of an environment: what is copied into it, measured and removed."""

import asyncio
import hashlib
import os
import shutil
import site
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.utils import parse_wheel_filename


async def discard(folder: Path, lock: int) -> None:
    """Remove it; the lock is held until removal ends, even if the caller is cancelled."""

    def remove(lock: int) -> None:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)

    removing = asyncio.get_running_loop().run_in_executor(None, remove, os.dup(lock))
    await asyncio.shield(removing)


def library_name(wheel: Path) -> str:
    """The normalised name of the library in a wheel."""
    return str(parse_wheel_filename(wheel.name)[0])


def digest_of(*lines: str) -> str:
    """The SHA-256 of lines of text, in hexadecimal."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def site_packages(folder: Path) -> Path:
    """Where a virtual environment keeps its packages."""
    return Path(
        sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    )


def base_path() -> str:
    """Lines that add the folders of this interpreter's packages, with what they add in turn."""
    folders = [*site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    known = [folder for folder in folders if Path(folder).is_dir()]
    return "".join(f"import site; site.addsitedir({folder!r})\n" for folder in known)


def copy_libraries(paths: Sequence[Path], target: Path) -> None:
    """Copy packages and modules that are no wheels."""
    for path in paths:
        if path.is_dir():
            shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns("*.pyc"))
        elif path.suffix == ".py":
            shutil.copyfile(path, target / path.name)


def files(folder: Path) -> Iterator[Path]:
    """Every file below a folder."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
