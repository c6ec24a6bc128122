"""The commands."""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from uuid import UUID

import click
import msgspec

from nbledger import __version__, roles
from nbledger.commands import isolation
from nbledger.embedded.errors import EmbeddedError
from nbledger.errors import DemoFailedError
from nbledger.role import ARTIFACTS, load_settings, run, run_command, run_role, stop_on_signals
from nbledger_infrastructure import logging
from nbledger_infrastructure.settings import Settings
from nbledger_infrastructure.settings_loading import SettingsError, environment_names

DATABASE = "postgres.dsn"
BROKER = "kafka.bootstrap_servers"

NEEDS = {
    "api": (DATABASE, ARTIFACTS),
    "relay": (DATABASE, BROKER),
    "projector": (DATABASE, ARTIFACTS),
    "worker": (DATABASE, BROKER, ARTIFACTS),
    "sealer": (DATABASE, "audit.origin", "audit.state_folder"),
    "migrate": (DATABASE,),
}
"""The settings that a command cannot do without."""

EPILOG = """
Settings come from the environment (NBLEDGER_POSTGRES_DSN, NBLEDGER_HTTP_PORT, …) and from a TOML
file: nbledger.toml, or the one that NBLEDGER_CONFIG names. `nbledger settings` lists them all.
"""


APART = {
    "token": "nbledger.commands.administration:token",
    "principals": "nbledger.commands.administration:principal",
    "audit": "nbledger.commands.administration:audit",
    "projections": "nbledger.commands.projections:projections",
    "purge": "nbledger.commands.purging:purge",
    "replay": "nbledger.commands.replaying:replay",
    "schemas": "nbledger.commands.schemas:schemas",
    "witness": "nbledger.commands.witness:witness",
}
"""Commands whose modules are imported when they are asked for: a witness has few packages."""


class Commands(click.Group):
    """The commands, with those of :data:`APART`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted({*super().list_commands(ctx), *APART})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; None where it lacks a package that is not installed."""
        if cmd_name in APART and cmd_name not in self.commands:
            module, _, name = APART[cmd_name].partition(":")
            try:
                self.add_command(getattr(importlib.import_module(module), name), cmd_name)
            except ModuleNotFoundError as error:
                if str(error.name).startswith("nbledger"):
                    raise
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="nbledger")
def main() -> None:
    """Store Jupyter notebooks, run them on kernel workers, and keep every change as an event.

    On one machine, `nbledger up` is all you need: it starts PostgreSQL, a Kafka broker and the
    five roles, and keeps its data in NBLEDGER_HOME (default: .nbledger). In a deployment each
    role runs by itself: api, relay, projector, sealer and worker.
    """


@main.command(short_help="Start everything on this machine and serve.")
def up() -> None:
    """Start everything on this machine and serve until Ctrl-C.

    The address, a token and the ids of the project are in NBLEDGER_HOME/server.json once it is
    ready. NBLEDGER_PORT chooses the port of the API (default 8080; 0: any free one).
    """
    from nbledger.commands.console import serve

    _run_local(serve)


@main.command(short_help="Run a notebook through the whole system.")
def demo() -> None:
    """Start everything, run a notebook from a template, show its results, and keep serving.

    With DEMO_EXIT=1 in the environment it exits after the results.
    """
    from nbledger.commands.demo import demonstrate

    _run_local(demonstrate)


@main.command()
def api() -> None:
    """Serve the REST API."""
    run_role("api", roles.api, *NEEDS["api"])


@main.command()
def worker() -> None:
    """Run notebooks on kernels of this machine."""
    run_role("worker", roles.worker, *NEEDS["worker"])


@main.command()
def projector() -> None:
    """Keep the read models up to date with the events."""
    run_role("projector", roles.projector, *NEEDS["projector"])


@main.command(short_help="Publish to Kafka, and recover lost work.")
@click.option("--replay", is_flag=True, help="Publish events again, and end.")
@click.option(
    "--topic", help="Where to: NBLEDGER_KAFKA_TOPIC_PREFIX.replay.ANYTHING, or one of your own."
)
@click.option(
    *("--from", "first"), type=click.IntRange(min=1), help="The first position (default: 1)."
)
@click.option(
    *("--to", "last"), type=click.IntRange(min=1), help="The last position (default: the newest)."
)
@click.option("--tenant", type=click.UUID, help="Only events of this tenant.")
@click.option("--project", type=click.UUID, help="Only events of this project of the tenant.")
@click.option("--confirm-live", is_flag=True, help="The topic may be the live one.")
def relay(  # noqa: PLR0917 (click gives them by name)
    replay: bool,  # noqa: FBT001
    topic: str | None,
    first: int | None,
    last: int | None,
    tenant: UUID | None,
    project: UUID | None,
    confirm_live: bool,  # noqa: FBT001
) -> None:
    """Publish events and commands to Kafka, and recover lost work.

    With --replay, publish events from the store again instead: to a topic of their own, which is
    made where it is missing, each message marked with ce_replay. What was interrupted goes on when
    the same command is given again; what was on its way then comes twice. A relay may run beside
    it.
    """
    if not replay:
        if topic or first or last or tenant or project or confirm_live:
            raise click.UsageError("These options go with --replay.")
        run_role("relay", roles.relay, *NEEDS["relay"])
        return
    from nbledger.commands.republishing import ReplayOptions, republish

    republish(ReplayOptions(topic, first, last, tenant, project, confirm_live))


@main.command(short_help="Enter events in the logs that prove them.")
def sealer() -> None:
    """Enter every event in the log of its tenant, and sign checkpoints of the logs."""
    run_role("sealer", roles.sealer, *NEEDS["sealer"])


@main.command()
def migrate() -> None:
    """Bring the database schema up to date."""
    from nbledger_infrastructure.postgres.database import migrate as apply_migrations

    settings = load_settings(*NEEDS["migrate"])

    async def apply() -> None:
        applied = await apply_migrations(settings.postgres.dsn)
        for name in applied:
            click.echo(f"applied {name}")
        if not applied:
            click.echo("the schema is up to date")

    run_command(apply(), settings)


@main.command()
def settings() -> None:
    """List every setting with its default, and say how kernels are isolated here.

    Exits with status 2 where the settings of this place are not usable.
    """
    defaults = Settings()
    for variable, (section, field) in environment_names().items():
        default = getattr(getattr(defaults, section), field)
        click.echo(f"{variable:45} [{section}] {field} = {default!r}")
    click.echo()
    try:
        for line in isolation.lines():
            click.echo(line)
    except SettingsError as error:
        told = "; ".join(error.faults)
        click.echo(f"Error: the settings are not usable: {told}", err=True)
        sys.exit(2)


def _run_local(command: Callable[[Settings, asyncio.Event], Awaitable[None]]) -> None:
    from nbledger_infrastructure.postgres.database import MigrationChangedError

    settings = load_settings()
    # What is done is told in words already; the roles keep logs of their own.
    quiet = msgspec.structs.replace(settings.log, level="warning")
    logging.configure(settings.log if settings.log.level == "debug" else quiet, role="up")

    async def wait() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        await command(settings, stop)

    try:
        run(wait())
    except* (EmbeddedError, DemoFailedError, MigrationChangedError) as failures:
        for failure in _leaves(failures):
            click.echo(f"Error: {failure}", err=True)
        sys.exit(1)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
