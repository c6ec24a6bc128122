"""The command that rids the files of the database of what is erased."""

import click

from nbledger.role import load_settings, run_command
from nbledger_infrastructure import logging
from nbledger_infrastructure.postgres import purging
from nbledger_infrastructure.postgres.database import close_pool, connect_pool


@click.command("purge", short_help="Rid the files of the database of what is erased.")
@click.option(
    "--skip",
    metavar="TABLE",
    multiple=True,
    help="A table to leave as it is; may be repeated. Writing table `event` anew takes longest.",
)
def purge(skip: tuple[str, ...]) -> None:
    """Write the tables anew and fill the write-ahead log, so that no file holds erased data.

    Vacuuming frees the room of erased data and leaves the bytes in it until other data takes it.
    The tables of rebuilds that were killed are dropped first.
    Each table is locked while it is written, and the service waits: choose a quiet hour. The user
    of the database must own the tables, and be a superuser for the log. Exits with status 1 where
    something was left.
    """
    from nbledger_projections.rebuild import remove_leftovers

    settings = load_settings("postgres.dsn")
    logging.configure(settings.log, role="administration")

    async def run() -> purging.Purged:
        pool = await connect_pool(
            settings.postgres.dsn, max_size=2, application_name="nbledger-administration"
        )
        try:
            await remove_leftovers(pool)
            return await purging.purge(
                pool, skip=skip, progress=lambda table: click.echo(f"writing {table}", err=True)
            )
        finally:
            await close_pool(pool)

    purged = run_command(run(), settings)
    click.echo(f"{len(purged.rewritten)} tables written anew")
    if purged.log_filled:
        click.echo("the write-ahead log holds nothing of before")
    if not purged.complete:
        raise click.ClickException("; ".join(_left(purged)))


def _left(purged: purging.Purged) -> list[str]:
    found = []
    if purged.left:
        found.append(f"not written anew, skipped or in use: {', '.join(sorted(purged.left))}")
    if purged.built:
        found.append(f"read models were being rebuilt or verified: {', '.join(purged.built)}")
    if purged.seen:
        found.append("a transaction or a replica from before keeps rows that were erased since")
    if purged.log_filled is None:
        found.append("the user of the database may not fill the write-ahead log")
    elif not purged.log_filled:
        found.append(
            "the server keeps segments of the write-ahead log, for a replica or an archive"
        )
    return found
