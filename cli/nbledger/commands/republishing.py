"""``nbledger relay --replay``: events published again, to a topic of their own."""

import asyncio
import sys
from uuid import UUID

import click
import msgspec

from nbledger.role import load_settings, run_command, stop_on_signals
from nbledger_infrastructure import logging
from nbledger_infrastructure.kafka.replays.carrying_out import carry_out
from nbledger_infrastructure.kafka.replays.topics import is_live, refusal
from nbledger_infrastructure.postgres import event_replays
from nbledger_infrastructure.postgres.database import Pool, acquire, close_pool, connect_pool
from nbledger_infrastructure.postgres.event_replays import COMMAND, EventReplay, ReplayRange
from nbledger_infrastructure.postgres.event_store import moments
from nbledger_infrastructure.settings import Settings

INTERRUPTED = 3
"""The status where there is more to publish."""


class ReplayOptions(msgspec.Struct, frozen=True):
    """What the command was told."""

    topic: str | None
    first: int | None
    last: int | None
    tenant_id: UUID | None
    project_id: UUID | None
    confirm_live: bool


def republish(asked: ReplayOptions) -> None:
    """Publish what is asked for; ends the program with a status where not everything is."""
    settings = load_settings("postgres.dsn", "kafka.bootstrap_servers")
    _check(settings, asked)
    quiet = msgspec.structs.replace(settings.log, level="warning")
    logging.configure(settings.log if settings.log.level == "debug" else quiet, role="replay")
    found = run_command(_run(settings, asked), settings)
    if found.state == "failed":
        raise click.ClickException(found.problem or "it failed")
    click.echo(
        f"{found.published} events published to {found.asked.topic}, up to position"
        f" {found.position} of {found.asked.last}"
    )
    if not found.ended:
        click.echo("Interrupted: the same command goes on from here.", err=True)
        sys.exit(INTERRUPTED)


def _check(settings: Settings, asked: ReplayOptions) -> None:
    """Raise ``click.UsageError`` for what cannot be done."""
    if asked.topic is None:
        raise click.UsageError("--replay needs --topic.")
    if (reason := refusal(settings.kafka, asked.topic, own_only=False)) is not None:
        raise click.UsageError(f"--topic {reason}.")
    if is_live(settings.kafka, asked.topic) and not asked.confirm_live:
        raise click.UsageError(
            f"{asked.topic} is the live topic: every subscriber gets the events again."
            " Say --confirm-live if that is wanted."
        )
    if asked.project_id is not None and asked.tenant_id is None:
        raise click.UsageError("--project needs --tenant.")


async def _run(settings: Settings, asked: ReplayOptions) -> EventReplay:
    stop = asyncio.Event()
    stop_on_signals(stop)
    pool = await connect_pool(settings.postgres.dsn, max_size=4, application_name="nbledger-replay")
    try:
        async with acquire(pool) as connection:
            replay = await _begun(pool, asked)
            if not await event_replays.take(connection, replay.replay_id):
                raise click.ClickException("The same replay is being carried out elsewhere.")
            return await carry_out(pool, settings, replay, stop, _tell)
    finally:
        await close_pool(pool)


async def _begun(pool: Pool, asked: ReplayOptions) -> EventReplay:
    """The replay that was interrupted, or else a new one."""
    async with acquire(pool) as connection:
        head = await moments.head(connection)
        assert asked.topic is not None  # noqa: S101 (it has been checked)
        wanted = ReplayRange(
            topic=asked.topic,
            first=asked.first or 1,
            last=min(asked.last or head, head),
            to_the_end=asked.last is None,
            tenant_id=asked.tenant_id,
            project_id=asked.project_id,
        )
        found = await event_replays.unfinished(connection, wanted)
        if found is not None:
            click.echo(f"Going on after position {found.position}", err=True)
            return found
        return await event_replays.create(connection, wanted, requested_by=COMMAND, by_command=True)


def _tell(replay: EventReplay) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{replay.position} of {replay.asked.last}", nl=replay.ended, err=True)
