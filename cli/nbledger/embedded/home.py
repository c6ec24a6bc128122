"""The home folder of one `nbledger up`: its identity, its lock, and where others find it."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nbledger.embedded.errors import HomeInUseError, HomeNotUsableError
from nbledger_infrastructure.locks import LockHeldError, acquire_lock

_LOCK = "up.lock"
_INSTANCE = "instance"
_SERVER = "server.json"


class ServerInfo(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """How to reach a running server; the content of `server.json`, secrets included.

    Attributes:
        url: base address of the REST service.
        token: bearer token of the project.
        tenant_id: tenant the token belongs to.
        project_id: project the token belongs to.
        kafka: bootstrap servers, `host:port`.
        postgres: connection address, password included.
    """

    url: str
    token: str
    tenant_id: str
    project_id: str
    kafka: str
    postgres: str

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"ServerInfo(url={self.url!r}, kafka={self.kafka!r})"


@dataclass(frozen=True)
class Home:
    """A home folder that this process owns.

    Attributes:
        path: the folder, absolute.
        instance: its id, made once, carried by all its processes as NBLEDGER_INSTANCE.
    """

    path: Path
    instance: str


@contextmanager
def open_home(path: Path) -> Iterator[Home]:
    """Make the folder if needed and own it for the length of the block.

    A `server.json` that a killed owner left is removed at once, ours at the end.

    Raises:
        HomeInUseError: another process owns it.
        HomeNotUsableError: it cannot be made or written.
    """
    path = path.expanduser().absolute()
    try:
        _make_folder(path)
        lock = acquire_lock(path / _LOCK)
    except LockHeldError as held:
        running = read_server_json(path)
        raise HomeInUseError(path, held.pid, running.url if running else None) from None
    except OSError as error:
        raise HomeNotUsableError(path, error.strerror or str(error)) from error
    try:
        try:
            remove_server_json(path)
            home = Home(path, _instance(path))
        except OSError as error:
            raise HomeNotUsableError(path, error.strerror or str(error)) from error
        try:
            yield home
        finally:
            remove_server_json(path)
    finally:
        lock.release()


def write_server_json(path: Path, info: ServerInfo) -> Path:
    """Write `server.json` into the home at `path`, whole or not at all, for the owner's eyes only.

    Returns:
        the file.
    """
    target = path / _SERVER
    write_atomically(target, msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")
    return target


def read_server_json(path: Path) -> ServerInfo | None:
    """What a running server wrote into the home at `path`; None if there is none to be read."""
    try:
        return msgspec.json.decode((path / _SERVER).read_bytes(), type=ServerInfo)
    except (OSError, msgspec.DecodeError):
        return None


def remove_server_json(path: Path) -> None:
    """Remove `server.json`; nothing happens if there is none."""
    (path / _SERVER).unlink(missing_ok=True)


def _make_folder(path: Path) -> None:
    # As root the database runs as another user, who must pass through the folder to its data;
    # every secret in it is closed by its own mode.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    if not path.is_dir():
        path.mkdir(mode=mode, parents=True)
        path.chmod(mode)


def _instance(path: Path) -> str:
    file = path / _INSTANCE
    try:
        return str(uuid.UUID(file.read_text().strip()))
    except FileNotFoundError:
        instance = str(uuid.uuid4())
        write_atomically(file, f"{instance}\n".encode())
        return instance
    except ValueError:
        raise HomeNotUsableError(path, f"{file} does not hold an id") from None


def write_atomically(target: Path, content: bytes) -> None:
    """Write a file, whole or not at all, for the owner's eyes only."""
    # mkstemp makes files with mode 0600.
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
