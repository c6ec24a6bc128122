"""Which folders and ports kernels are kept from, and which they must see, by the settings."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from jupyter_client.kernelspec import KernelSpec, NoSuchKernel

from nbledger_infrastructure import settings
from nbledger_infrastructure.settings_loading import config_file
from nbledger_workers.kernel.specs import InterpreterKernelSpecManager

_POSTGRES_PORT: Final = 5432
_KAFKA_PORT: Final = 9092

# Sockets of the system's services and of the user's session, by which programs are started
# outside; and of a container, its secrets. Names are still to be resolved.
_RUN: Final = "/run"
_RESOLVERS: Final = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager/resolv.conf")
#: What only root may read, for kernels that have no user of their own.
SECRETS: Final = ("/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d", "/etc/ssh")


def hidden(config: settings.Settings) -> tuple[str, ...]:
    """What the service keeps and is told, and how the system's services are reached."""
    places = [*config.worker.hidden_folders, _RUN]
    if os.environ.get("NBLEDGER_HOME"):
        places.append(os.environ["NBLEDGER_HOME"])
    artifacts = urlsplit(config.artifacts.url)
    if artifacts.scheme == "file":
        places.append(unquote(artifacts.path))
    if (file := config_file()) is not None:
        places.append(str(file))
    if os.geteuid() == 0:
        places.append(str(Path.home()))
    # Workers of this machine may have their runs there, each in a folder of its own.
    places.append(config.worker.work_folder)
    return tuple(dict.fromkeys(str(Path(place).absolute()) for place in places if place))


def visible(config: settings.Settings) -> tuple[str, ...]:
    """Where Python, what it imports and other kernels lie, though what is around them is hidden."""
    places = [
        *config.worker.readable_folders,
        *_RESOLVERS,
        sys.prefix,
        sys.base_prefix,
        *sys.path,
        *(os.environ.get(name, "") for name in ("JAVA_HOME", "R_HOME", "CONDA_PREFIX")),
        *os.environ.get("JUPYTER_PATH", "").split(os.pathsep),
        config.environments.library_folder,
        *_of_kernelspecs(config.worker.kernels),
    ]
    home = Path.home()
    return tuple(
        dict.fromkeys(
            place for place in places if Path(place).is_absolute() and Path(place) != home
        )
    )


def closed_to_others(places: Iterable[str]) -> dict[str, str]:
    """Of these places those that other users do not reach, each with what stands in the way."""
    found = {}
    for place in places:
        path = Path(place).resolve()
        if path.exists():
            around = closed_around(path)
            if around is not None:
                found[place] = around
            elif not _open(path, 0o005 if path.is_dir() else 0o004):
                found[place] = str(path)
    return found


def closed_around(path: Path) -> str | None:
    """The outermost folder around the path that other users do not pass through."""
    parents = reversed(path.resolve().parents)
    return next((str(each) for each in parents if not _open(each, 0o001)), None)


def ports(config: settings.Settings) -> tuple[int, ...]:
    """The TCP ports of database, broker and health checks, and those that the settings name."""
    found = {*_ports_of_database(config.postgres.dsn), *config.worker.closed_ports}
    for server in config.kafka.bootstrap_servers.split(","):
        if server.strip():
            port = server.rpartition(":")[2]
            found.add(int(port) if port.isdigit() else _KAFKA_PORT)
    found.add(config.health.port)
    return tuple(sorted(found - {0, *config.worker.open_ports}))


def passable_folder(folder: Path) -> Path:
    """Where runs have their folders when another user has to pass through to them."""
    known = next(each for each in (folder, *folder.parents) if each.exists())
    shut = closed_around(known / ".") is not None or not _open(known, 0o001)
    return Path(tempfile.gettempdir()) if shut else folder


def _ports_of_database(dsn: str) -> set[int]:
    if not dsn:
        return set()
    # As asyncpg reads it: several hosts may be named, each with a port or without. Query members
    # count where no host is named before them.
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    named = parts.netloc.rpartition("@")[2]
    apart = "" if named else "".join(query.get("port", ())[:1])
    hosts = (named or "".join(query.get("host", ())[:1])).split(",")
    told = ["" if host[-1:] == "]" else host.rpartition(":")[2] for host in hosts if ":" in host]
    found = {int(port) for port in (*told, *apart.split(",")) if port.isdigit()}
    if len(list(filter(None, told))) < len(hosts) and not apart:
        default = os.environ.get("PGPORT", "").split(",")
        found |= {int(port) for port in default if port.isdigit()} or {_POSTGRES_PORT}
    return found


def _of_kernelspecs(kernels: Mapping[str, str]) -> list[str]:
    manager = InterpreterKernelSpecManager()
    places: list[str] = []
    for name in kernels.values():
        try:
            places += _of_kernelspec(manager.get_kernel_spec(name))
        except NoSuchKernel:
            continue
    return places


def _of_kernelspec(spec: KernelSpec) -> list[str]:
    """Its own folder, the folders that it names, and what the program belongs to."""
    program = Path(spec.argv[0])
    prefix = program.parent.parent if program.parent.name == "bin" else program.parent
    named = [each for each in (*spec.argv[1:], *spec.env.values()) if Path(each).is_dir()]
    return [spec.resource_dir, str(prefix) if program.is_absolute() else "", *named]


def _open(path: Path, wanted: int) -> bool:
    return stat.S_IMODE(path.stat().st_mode) & wanted == wanted
