"""Commands of those who run the service: tokens, principals, audits."""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nbledger.commands.exporting import export
from nbledger.role import load_settings, run_command
from nbledger_domain.vocabulary.addresses import ALL_PROJECTS
from nbledger_infrastructure.postgres import principals, tokens
from nbledger_infrastructure.postgres.database import Pool, connect_pool
from nbledger_infrastructure.settings import Settings

if TYPE_CHECKING:
    from nbledger_infrastructure.postgres.event_store.audit import Anchor, ErasedEvent

console = Console(highlight=False)


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Pool]:
    """Connections for a command."""
    pool = await connect_pool(
        settings.postgres.dsn, max_size=2, application_name="nbledger-administration"
    )
    try:
        yield pool
    finally:
        await pool.close()


@click.group()
def token() -> None:
    """Create, list and revoke access tokens."""


@token.command("create")
@click.option(
    "--name",
    required=True,
    help="Who acts with it; history shows this name. Tokens of one name are of one principal.",
)
@click.option("--tenant", "tenant_id", type=click.UUID, required=True)
@click.option(
    "--project",
    "project_ids",
    type=click.UUID,
    multiple=True,
    help="A project that it is valid for; may be repeated. Without it: all projects.",
)
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in tokens.Role]),
    multiple=True,
    default=["editor"],
    show_default=True,
    help="A role that it grants; may be repeated.",
)
@click.option("--days", type=click.IntRange(1), help="Days until it expires. Without it: never.")
def create_token(
    name: str, tenant_id: UUID, project_ids: tuple[UUID, ...], roles: tuple[str, ...], days: int
) -> None:
    """Create a token and print it. It is stored only as a hash and never shown again."""
    if not name.strip():
        raise click.BadParameter("must not be blank: history shows it", param_hint="--name")
    if ALL_PROJECTS in project_ids:
        reason = "the nil UUID is no project's id; leave --project out for all projects"
        raise click.BadParameter(reason, param_hint="--project")
    settings = load_settings("postgres.dsn")

    async def create() -> None:
        async with database(settings) as pool:
            secret, record = await tokens.create(
                pool,
                name=name,
                tenant_id=tenant_id,
                project_ids=list(project_ids) or None,
                roles=[tokens.Role(role) for role in roles],
                expires_at=datetime.now(UTC) + timedelta(days=days) if days else None,
            )
        click.echo(f"id: {record.token_id}", err=True)
        click.echo(f"principal: {record.principal_id}", err=True)
        click.echo(secret)

    run_command(create(), settings)


@token.command("list")
@click.option("--tenant", "tenant_id", type=click.UUID, help="Only the tokens of this tenant.")
def list_tokens(tenant_id: UUID | None) -> None:
    """List the tokens, without their secrets, which are not stored."""
    settings = load_settings("postgres.dsn")

    async def show() -> None:
        async with database(settings) as pool:
            found = await tokens.list_all(pool, tenant_id)
        table = Table(
            *("id", "name", "tenant", "projects", "roles", "created", "state", "principal"),
            box=None,
        )
        for record in found:
            table.add_row(
                str(record.token_id),
                _name(record.name),
                str(record.tenant_id),
                "all" if record.project_ids is None else "\n".join(map(str, record.project_ids)),
                ", ".join(record.roles),
                f"{record.created_at:%Y-%m-%d %H:%M}",
                _state(record),
                str(record.principal_id),
            )
        # Ids are there to be copied: rather lines that run over than columns cut short.
        Console(highlight=False, width=1000).print(table)

    run_command(show(), settings)


@token.command("revoke")
@click.argument("token_id", type=click.UUID)
def revoke_token(token_id: UUID) -> None:
    """Revoke a token, by the id that `list` shows. It is refused a few seconds later."""
    settings = load_settings("postgres.dsn")

    async def revoke() -> bool:
        async with database(settings) as pool:
            return await tokens.revoke(pool, token_id)

    if not run_command(revoke(), settings):
        raise click.ClickException(f"there is no token {token_id} that has not ended already")
    click.echo(f"revoked {token_id}")


def _state(record: tokens.Token) -> str:
    if record.revoked_at is not None:
        return f"revoked {record.revoked_at:%Y-%m-%d %H:%M}"
    if record.expires_at is None:
        return "valid"
    state = "expired" if record.expires_at <= datetime.now(UTC) else "valid until"
    return f"{state} {record.expires_at:%Y-%m-%d %H:%M}"


def _name(name: str | None) -> Text:
    return Text("(erased)" if name is None else name)


@click.group("principals")
def principal() -> None:
    """List who acts by tokens, and erase their names."""


@principal.command("list")
@click.option("--tenant", "tenant_id", type=click.UUID, help="Only the principals of this tenant.")
def list_principals(tenant_id: UUID | None) -> None:
    """List the principals by their ids, which events hold, with their names, which they do not."""
    settings = load_settings("postgres.dsn")

    async def show() -> None:
        async with database(settings) as pool:
            found = await principals.list_all(pool, tenant_id)
        table = Table("id", "name", "tenant", "created", "valid tokens", "erased", box=None)
        for each in found:
            table.add_row(
                str(each.principal_id),
                _name(each.name),
                str(each.tenant_id),
                f"{each.created_at:%Y-%m-%d %H:%M}",
                str(each.valid_tokens),
                "" if each.erased_at is None else f"{each.erased_at:%Y-%m-%d %H:%M}",
            )
        Console(highlight=False, width=1000).print(table)

    run_command(show(), settings)


@principal.command("erase")
@click.argument("principal_id", type=click.UUID)
def erase_principal(principal_id: UUID) -> None:
    """Erase the name of a principal for good, by the id that `list` shows, and end its tokens.

    Events keep the id, which is random. Answers and histories show it in place of the name a few
    seconds later. Exits with status 1 where the file of the table could not be written anew, as the
    table was in use; the same command does it later.
    """
    settings = load_settings("postgres.dsn")

    async def erase() -> tuple[principals.Erased | None, bool]:
        async with database(settings) as pool:
            erased = await principals.erase(pool, principal_id)
            return erased, await principals.names_in_events(pool)

    erased, in_events = run_command(erase(), settings)
    if erased is None:
        raise click.ClickException(f"there is no principal {principal_id}")
    click.echo(f"erased {principal_id}")
    if in_events:
        click.echo(
            "This store has events from before names were kept apart; they hold the names of "
            "tokens as they were recorded, and keep them.",
            err=True,
        )
    if not erased.rewritten:
        raise click.ClickException(
            "the name is erased and its tokens are revoked, but the file of table principal still "
            "holds it until the table is vacuumed: a transaction that is open keeps the table in "
            f"use. Once that has ended: nbledger principals erase {principal_id}"
        )


@click.group()
def audit() -> None:
    """Check that history has not been altered, export it, and make the key that signs its log."""


audit.add_command(export)


class _AnchorType(click.ParamType["Anchor"]):
    """``POSITION:FINGERPRINT``, as an earlier audit printed it."""

    name = "anchor"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Anchor":
        from nbledger_infrastructure.postgres.event_store.audit import Anchor

        position, _, fingerprint = str(value).partition(":")
        if not (position.isdigit() and re.fullmatch("[0-9a-f]{64}", fingerprint)):
            self.fail("must look like 4711:9f86d0…, as an earlier audit printed it", param, ctx)
        return Anchor(int(position), fingerprint)


@audit.command("verify")
@click.option(
    "--anchor",
    type=_AnchorType(),
    metavar="POSITION:FINGERPRINT",
    help="The anchor that an earlier audit printed. With it the audit also finds events that were "
    "cut off the end, and a history that was rewritten as a whole.",
)
@click.option(
    "--erased",
    "list_erased",
    is_flag=True,
    help="List each event whose data is erased, with the position of the event that deleted it.",
)
@click.option(
    "--held",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="A checkpoint of a log that somebody kept outside of the database; may be repeated. With "
    "it the audit also finds what the owner of the database has computed anew or cut off since.",
)
def verify(anchor: "Anchor | None", held: tuple[Path, ...], *, list_erased: bool) -> None:
    """Recompute every digest and chain of the event store and name the first fault.

    Data may be missing only where an event says that what it belonged to was deleted. Then make the
    logs of all tenants anew, and compare them with the newest checkpoint of each and with those
    that are held.

    Exits with status 1 if there is a fault, and with 2 if the database cannot be read.
    """
    from nbledger_audit.checking import LogsReport, check_logs
    from nbledger_domain.transparency.notes import NoteError, read_note
    from nbledger_infrastructure.postgres.event_store.audit import verify as verify_store

    settings = load_settings("postgres.dsn")
    try:
        notes = [read_note(file.read_text()) for file in held]
    except (NoteError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"no checkpoint: {error}", param_hint="--held") from None

    async def check() -> bool:
        async with database(settings) as pool:
            report = await verify_store(
                pool, anchor=anchor, on_erased=_tell_erased if list_erased else _keep_quiet
            )
            told = await check_logs(pool, notes) if report.intact else LogsReport(0, ())
        click.echo(
            f"{report.events} events in {report.streams} streams verified, "
            f"{report.erased} of them erased"
        )
        if report.unsalted:
            click.echo(
                f"{report.unsalted} of them have digests without salt, from before migration 0022"
            )
        for each in told.faults:
            click.echo(f"FAULT in the log {each.origin}: {each.what}")
        if told.faults:
            return False
        if report.fault is None:
            if told.checkpoints:
                click.echo(f"the events are those of {told.checkpoints} signed checkpoints")
            click.echo("nothing was altered")
            click.echo(f"anchor: {report.position}:{report.fingerprint}")
            return True
        fault = report.fault
        click.echo(f"FAULT at position {fault.position}: {fault.what}")
        if fault.stream_id is not None:
            click.echo(f"stream {fault.stream_id}, version {fault.version}")
        return False

    if not run_command(check(), settings):
        sys.exit(1)


def _keep_quiet(_: "ErasedEvent") -> None:
    """Tell nothing."""


def _tell_erased(event: "ErasedEvent") -> None:
    click.echo(
        f"erased: position {event.position}, {event.type}, stream {event.stream_id}, "
        f"version {event.version}; deleted at position {event.deletion_position}, "
        f"{event.deleted_at:%Y-%m-%dT%H:%M:%SZ}"
    )


@audit.command("key")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def make_key(file: Path) -> None:
    """Make the key that the sealer signs checkpoints with, in a new FILE (setting audit.key_file).

    Only its owner can read it. No file is ever overwritten.
    """
    from nbledger_audit.keys import Signer

    try:
        signer = Signer.generate(file)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    click.echo(f"made {file}; its public key is {signer.public.hex()}")
