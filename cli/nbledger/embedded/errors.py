"""What can go wrong around embedded services, in words for the person at the prompt."""

from __future__ import annotations

from pathlib import Path


class EmbeddedError(RuntimeError):
    """Base of the errors raised by this package. `str(error)` is fit to be shown as it is."""


class ServiceFailedError(EmbeddedError):
    """A service ended, or did not become ready in time.

    Attributes:
        service: its name, e.g. `postgres`.
        log_file: where it wrote why, if it has a log.
    """

    def __init__(self, service: str, reason: str, log_file: Path | None = None) -> None:
        self.service = service
        self.log_file = log_file
        super().__init__(f"{service} {reason}{_tail(log_file)}")


class DataFolderInUseError(EmbeddedError):
    """Another live process owns the data folder of a service."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        self.folder = folder
        self.pid = pid
        super().__init__(f"the data folder {folder} is in use by process {pid or 'unknown'}")


class HomeInUseError(EmbeddedError):
    """Another `nbledger up` runs on the same home.

    Attributes:
        home: the folder.
        pid: process id of the running one; None if it has not written it yet.
        url: address it serves; None while it is still starting.
    """

    def __init__(self, home: Path, pid: int | None, url: str | None) -> None:
        self.home = home
        self.pid = pid
        self.url = url
        where = f"serving {url}" if url else "still starting"
        super().__init__(f"{home} is in use by process {pid or 'unknown'}, {where}")


class HomeNotUsableError(EmbeddedError):
    """The home folder cannot be created, entered or written by this user."""

    def __init__(self, home: Path, reason: str) -> None:
        self.home = home
        super().__init__(f"cannot use {home} as the home folder: {reason}")


class PortNotUsableError(EmbeddedError):
    """The API cannot listen where it should."""

    def __init__(self, port: str, reason: str) -> None:
        super().__init__(
            f"cannot serve on port {port}: {reason}. "
            "NBLEDGER_PORT chooses another (0: any free one)"
        )


class ArtifactsNotUsableError(EmbeddedError):
    """The artifact store that the settings name cannot do its part."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot use the artifact store of the settings: {reason}")


class DatabaseNotUsableError(EmbeddedError):
    """The database that the settings name cannot be reached, or refuses.

    Attributes:
        place: where it is, without user and password.
    """

    def __init__(self, place: str, reason: str) -> None:
        self.place = place
        super().__init__(
            f"cannot use the database {place}: {reason}. NBLEDGER_POSTGRES_DSN (or dsn of "
            "[postgres] in the settings file) names it; without it nbledger starts its own"
        )


class LeftoverProcessesError(EmbeddedError):
    """Processes of an earlier run could not be ended.

    Attributes:
        pids: the process ids still there.
    """

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids
        super().__init__(
            "processes of an earlier run could not be ended: " + ", ".join(map(str, pids))
        )


def _tail(log_file: Path | None, size: int = 1500) -> str:
    if log_file is None:
        return ""
    try:
        with log_file.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - size))
            text = log.read().decode(errors="replace").strip()
    except OSError:
        return f" (log: {log_file})"
    return f" (log: {log_file})\n{text}" if text else f" (log: {log_file})"
