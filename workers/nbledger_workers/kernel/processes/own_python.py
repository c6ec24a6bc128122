"""A virtual environment in a run's folder, on top of the one that its kernel has.

What a notebook installs goes there, comes first when it imports, and vanishes with the run. Making
it takes a millisecond: it is a few small files, and pip is that of the environment below.
"""

from __future__ import annotations

import os
import shlex
import shutil
import site
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

_FOLDER: Final = ".venv"
_BELOW: Final = "_nbledger_base.pth"
# A kernel is told of the environment that was made for it, as one that is forked is of its
# fork server's; pip, which installs below its prefix, of the run's own.
_PREFIX: Final = (
    "import sys; sys.prefix = sys.exec_prefix ="
    " {!r} if 'ipykernel_launcher' in sys.orig_argv else sys.prefix\n"
)


class OwnPython(NamedTuple):
    """The interpreter of a run and the folder of its packages."""

    executable: str
    packages: str
    folder: str


def make(run_folder: Path, below: Path | None = None) -> OwnPython:
    """Make it, on top of the environment in the folder `below` or else of this process's own.

    A folder in which a notebook has run before has it already.
    """
    folder = run_folder / _FOLDER
    programs = folder / "bin"
    packages = site_packages(folder)
    own = OwnPython(str(programs / "python"), str(packages), str(folder))
    if folder.exists():
        return own
    programs.mkdir(mode=0o755, parents=True)
    packages.mkdir(mode=0o755, parents=True)
    base = Path(getattr(sys, "_base_executable", sys.executable))
    version = ".".join(map(str, sys.version_info[:3]))
    (folder / "pyvenv.cfg").write_text(
        f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n",
        "utf-8",
    )
    (programs / "python").symlink_to(base)
    for name in ("python3", f"python{sys.version_info.major}.{sys.version_info.minor}"):
        (programs / name).symlink_to("python")
    _write_pip(programs, own.executable)
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        (programs / "uv").symlink_to(uv)
    places = site.getsitepackages() if below is None else [str(site_packages(below))]
    lines = [f"import site; site.addsitedir({place!r})\n" for place in places]
    if below is not None:
        lines.append(_PREFIX.format(str(below)))
    (packages / _BELOW).write_text("".join(lines), "utf-8")
    return own


def variables(own: OwnPython, environment: Mapping[str, str]) -> dict[str, str]:
    """What makes programs that a cell starts those of the run."""
    path = [str(Path(own.executable).parent), environment.get("PATH", os.defpath)]
    return {
        "VIRTUAL_ENV": own.folder,
        "PATH": os.pathsep.join(path),
        # Neither is a notebook's to change.
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def site_packages(folder: Path) -> Path:
    """The folder of packages in the virtual environment at `folder`."""
    return Path(
        sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    )


def _write_pip(programs: Path, executable: str) -> None:
    # Not the program of the environment below, whose interpreter would install there. The name of
    # the folder may be longer than the first line of a script can be.
    script = f'#!/bin/sh\nexec {shlex.quote(executable)} -m pip "$@"\n'
    path = programs / "pip"
    path.write_text(script, "utf-8")
    path.chmod(0o755)
    for name in ("pip3", f"pip{sys.version_info.major}.{sys.version_info.minor}"):
        shutil.copy(path, programs / name)
