"""Commands on projections: how far they are, rebuilding them, and comparing them with a rebuild."""

import sys
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from nbledger.role import load_settings, run_command
from nbledger_infrastructure import logging
from nbledger_infrastructure.settings import Settings

if TYPE_CHECKING:
    from nbledger_projections.rebuilding.progress import Progress, Tell
    from nbledger_projections.status import ConsumerStatus, Status
    from nbledger_projections.verify import Verified

T = TypeVar("T")

DATABASE = "postgres.dsn"

_as_json = click.option("--json", "as_json", is_flag=True, help="Answer as JSON, for programs.")


@click.group()
def projections() -> None:
    """Say how far projections are, rebuild them, and verify them against a rebuild."""


@projections.command("status")
@_as_json
def show_status(as_json: bool) -> None:  # noqa: FBT001 (an option)
    """Say how far every projection is behind the events, and what is being rebuilt.

    Below the projections come the other consumers of events, such as the relay. The lag is told in
    events, and in seconds since the first of them was recorded.
    """
    from nbledger_infrastructure.postgres.database import close_pool, connect_pool
    from nbledger_projections.status import status

    settings = load_settings(DATABASE)

    async def ask() -> "Status":
        pool = await connect_pool(
            settings.postgres.dsn, max_size=1, application_name="nbledger-administration"
        )
        try:
            return await status(pool)
        finally:
            await close_pool(pool)

    found = run_command(ask(), settings)
    if as_json:
        _print_json(found)
        return
    columns = ("name", "state", "position", "lag (events)", "lag (s)", "events/s")
    table = Table(*columns, "rebuild", box=None)
    for each in found.consumers:
        table.add_row(
            each.name,
            each.state,
            f"{each.position}",
            f"{each.lag_events}",
            f"{each.lag_seconds:.1f}",
            f"{each.per_second:.1f}",
            _rebuild_in_words(each),
        )
    Console(highlight=False, width=1000).print(table)
    click.echo(f"the last event is at position {found.position}")


@projections.command("rebuild")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_as_json
def rebuild_projections(names: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001 (an option)
    """Rebuild projections (or `all`) from the events, while those in use serve.

    The new tables take the place of the old ones once they are complete. Progress goes to standard
    error. A rebuild that is interrupted changes nothing and is begun anew. Run it as the owner of
    the database.
    """
    from nbledger_projections.rebuild import rebuild

    settings = load_settings(DATABASE)
    positions = _run(rebuild(settings, names, _progress(as_json=as_json)), settings)
    if as_json:
        _print_json({"rebuilt": [{"name": name, "position": at} for name, at in positions.items()]})
        return
    for name, position in positions.items():
        click.echo(f"{name}: rebuilt as of position {position}")


@projections.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_as_json
def verify_projections(names: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001 (an option)
    """Rebuild projections (by default all) beside those in use, and compare both row by row.

    Nothing is replaced and nothing is locked. Rows that differ are named by their keys, without
    what they hold. Exits with status 1 if there are any, and with 2 if the database cannot be read.
    Run it as the owner of the database.
    """
    from nbledger_projections.rebuild import ALL
    from nbledger_projections.verify import verify

    settings = load_settings(DATABASE)
    verified = _run(verify(settings, names or [ALL], _progress(as_json=as_json)), settings)
    if as_json:
        _print_json({"verified": verified})
    else:
        for each in verified:
            _tell(each)
    if not all(each.equal for each in verified):
        sys.exit(1)


def _run(work: Coroutine[Any, Any, T], settings: Settings) -> T:
    from nbledger_projections.machinery.runner import PoisonedEventError
    from nbledger_projections.rebuild import UnknownProjectionError
    from nbledger_projections.rebuilding.exchange import TablesBusyError
    from nbledger_projections.rebuilding.tables import RebuildRunningError
    from nbledger_projections.verify import CheckpointFellError

    logging.configure(settings.log, role="projections")
    try:
        return run_command(work, settings)
    except (
        UnknownProjectionError,
        RebuildRunningError,
        TablesBusyError,
        PoisonedEventError,
        CheckpointFellError,
    ) as error:
        raise click.ClickException(str(error)) from None


def _progress(*, as_json: bool) -> "Tell":
    """Tells of progress on standard error: in a line for each time, or as JSON lines."""

    def tell(told: "Sequence[Progress]") -> None:
        if as_json:
            click.echo(msgspec.json.encode({"progress": told}), err=True)
        else:
            click.echo("; ".join(_in_words(each) for each in told if _tells(each)), err=True)

    return tell


def _tells(progress: "Progress") -> bool:
    return progress.phase not in ("done", "failed")


def _in_words(progress: "Progress") -> str:
    if progress.phase != "folding":
        return f"{progress.name}: {progress.phase}"
    words = f"{progress.name}: {progress.percent} % of {progress.target} events"
    if progress.per_second and progress.seconds_left is not None:
        words += f", {progress.per_second:.0f}/s, {progress.seconds_left:.0f} s left"
    return words


def _rebuild_in_words(consumer: "ConsumerStatus") -> str:
    rebuild = consumer.rebuild
    if rebuild is None:
        return ""
    words = f"{rebuild.phase}, {rebuild.percent} %"
    if rebuild.seconds_left and consumer.state != "interrupted":
        words += f", {rebuild.seconds_left:.0f} s left"
    return words


def _tell(verified: "Verified") -> None:
    rows = sum(each.rows for each in verified.tables)
    if verified.equal:
        click.echo(f"{verified.name}: {rows} rows equal at position {verified.position}")
    else:
        click.echo(f"{verified.name}: {verified.differing} rows DIFFER at {verified.position}")
    for table in verified.tables:
        click.echo(f"  {table.table}: sha256 {table.digest}")
    for each in verified.differences:
        key = ", ".join(f"{name}={value}" for name, value in each.key.items())
        columns = f" in {', '.join(each.columns)}" if each.columns else ""
        click.echo(f"  {each.table} ({key}) is {each.how}{columns}")


def _print_json(body: object) -> None:
    click.echo(msgspec.json.encode(body))
