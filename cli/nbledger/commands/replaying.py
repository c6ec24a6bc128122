"""`nbledger replay`: any aggregate at any moment, with the events that made it."""

import sys
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
import msgspec

from nbledger.commands.administration import database
from nbledger.role import load_settings, run_command
from nbledger_domain.past import moments
from nbledger_domain.past.moments import AsOf, written

if TYPE_CHECKING:
    from nbledger_application.replay import Replayed, ReplayedEvent


class _Moment(click.ParamType[AsOf]):
    """A time, a position, or a version of a notebook."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> AsOf:
        try:
            return moments.parse(str(value), versions=True)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("replay", short_help="Print what something was at any moment.")
@click.argument("stream_id", metavar="ID", type=click.UUID)
@click.option(
    "--as-of",
    type=_Moment(),
    metavar="MOMENT",
    help="A time with its zone (2026-11-29T10:30:00Z), the position of an event, or a version of a "
    "notebook (1.2.0). Without it: now.",
)
@click.option("--schedule", is_flag=True, help="ID is a notebook: print its schedule.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines: the state, then each event.")
def replay(*, stream_id: UUID, as_of: AsOf | None, schedule: bool, as_json: bool) -> None:
    """Print what has the id ID as it was at a moment, with the events that made it.

    That is a notebook, an execution, a dataset, a library, an action, or whatever else has a stream
    of its own: any `streamId` of a history. Exits with status 1 where there is none, where it did
    not exist then, and where its data has been erased; of that the events are still told.
    """
    from nbledger_application.replay import StreamNotFoundError
    from nbledger_application.replay import replay as replay_stream
    from nbledger_domain.errors import DomainError
    from nbledger_domain.events import UnknownEventTypeError
    from nbledger_domain.schedule import schedule_id_of

    settings = load_settings("postgres.dsn")
    wanted = schedule_id_of(stream_id) if schedule else stream_id

    async def read() -> "Replayed":
        async with database(settings) as pool:
            return await replay_stream(pool, wanted, as_of)

    try:
        found = run_command(read(), settings)
    except StreamNotFoundError as error:
        told = f"notebook {stream_id} has no schedule" if schedule else error.detail
        raise click.ClickException(told) from None
    except DomainError as error:
        raise click.ClickException(error.detail) from None
    except UnknownEventTypeError as error:
        raise click.ClickException(f"this version of nbledger cannot read {error}") from None
    _print_lines(found) if as_json else _print_readable(found)
    if found.state is None:
        when = "" if found.erased_at is None else f" at {written(found.erased_at)}"
        click.echo(f"Error: its data was erased{when}; only its events remain", err=True)
        sys.exit(1)


def _print_lines(found: "Replayed") -> None:
    told = msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(found, events=[])))
    del told["events"]
    for line in (told, *found.events):
        click.echo(msgspec.json.encode(line).decode())


def _print_readable(found: "Replayed") -> None:
    click.echo(f"{found.kind} {found.stream_id}")
    click.echo(f"of project {found.project_id}, tenant {found.tenant_id}")
    if found.subject_id != found.stream_id:
        click.echo(f"part of {found.subject_id}")
    click.echo(f"after position {found.position}, at {written(found.at)}; version {found.version}")
    click.echo()
    state = "(erased)" if found.state is None else _indented(found.state)
    click.echo(f"state: {state}")
    click.echo()
    click.echo("events:")
    for each in found.events:
        click.echo(_line(each))


def _line(event: "ReplayedEvent") -> str:
    erased = "  (erased)" if event.erased else ""
    return (
        f"{event.position:>10}  {event.version:>6}  {written(event.recorded_at)}  "
        f"{event.type}  {event.actor}{erased}"
    )


def _indented(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
