"""What `nbledger settings` says of the isolation that a worker here would give its kernels."""

from collections.abc import Iterator

from nbledger_infrastructure.settings import Settings, SettingsError, load


def lines() -> Iterator[str]:
    """In words, from the settings as they are here; it is tried, which takes a moment."""
    try:
        settings = load()
    except SettingsError as error:
        yield f"The settings are not usable, so nothing is isolated: {'; '.join(error.faults)}"
        return
    try:
        yield from _isolated(settings)
    except ImportError:
        yield "No worker is installed here: install nbledger[worker] to run kernels."


def _isolated(settings: Settings) -> Iterator[str]:
    from nbledger_workers import confinement

    try:
        found = confinement.confinement(settings)
    except confinement.IsolationMissingError as error:
        yield f"A worker does not start here: {error}"
        return
    told = found.describe()
    yield f"Kernels of a worker started here are isolated by {told['by']} (worker.isolation):"
    yield f"  user: {told['user']}"
    yield f"  network: {told['network']}"
    ports = found.preparation.closed_ports
    yield f"  closed TCP ports: {', '.join(map(str, ports)) or 'none is set'}"
    if found.missing:
        yield f"  not to be had: {found.missing}"
    if not found.not_stopped:
        yield "  Nothing of what docs/deployment.md lists is left open."
    for each in found.not_stopped:
        yield f"  not stopped: {each}"
