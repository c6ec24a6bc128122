"""What `nbledger settings` says of the isolation that a worker here would give its kernels."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nbledger_infrastructure.settings import Settings
from nbledger_infrastructure.settings_loading import load

if TYPE_CHECKING:
    from nbledger_workers.confinement.levels import Confinement


def lines() -> Iterator[str]:
    """In words, from the settings as they are here; it is tried, which takes a moment.

    Raises :class:`SettingsError` where these are not usable.
    """
    settings = load()
    try:
        yield from _isolated(settings)
    except ImportError:
        yield "No worker is installed here: install nbledger[worker] to run kernels."


def _isolated(settings: Settings) -> Iterator[str]:
    from nbledger_workers.confinement import levels

    try:
        found = levels.confinement(settings)
    except levels.IsolationMissingError as error:
        yield f"A worker does not start here: {error}"
        return
    told = found.describe()
    yield f"Kernels of a worker started here are isolated by {told['by']} (worker.isolation):"
    yield f"  user: {told['user']}"
    yield f"  network: {told['network']}"
    yield f"  closed TCP ports: {_closed_ports(settings, found)}"
    if found.missing:
        yield f"  not to be had: {found.missing}"
    if not found.not_stopped:
        yield "  Nothing of what docs/deployment.md lists is left open."
    for each in found.not_stopped:
        yield f"  not stopped: {each}"


def _closed_ports(settings: Settings, found: "Confinement") -> str:
    if found.every.network == "none":
        return "all, for there is no network"
    if not found.closes_ports:
        return "none, for this cannot be had here"
    ports = ", ".join(map(str, found.preparation.closed_ports))
    embedded = {
        "PostgreSQL": settings.postgres.dsn,
        "the Kafka broker": settings.kafka.bootstrap_servers,
    }
    started = " and ".join(name for name, setting in embedded.items() if not setting)
    if not started:
        return ports or "none, for all are named in worker.open_ports"
    chosen = f"with `nbledger up` also those that it chooses for {started} when it starts them"
    return f"{ports}; {chosen}" if ports else chosen.replace("also ", "")
