"""Commands of those who run the service: tokens, audits, rebuilding read models."""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nbledger.role import load_settings, run_command
from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.database import Pool, connect_pool
from nbledger_infrastructure.settings import Settings

if TYPE_CHECKING:
    from nbledger_infrastructure.postgres.event_store.audit import Anchor

console = Console(highlight=False)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Pool]:
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
@click.option("--name", required=True, help="Who acts with it; history shows this name.")
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
    settings = load_settings("postgres.dsn")

    async def create() -> None:
        async with _database(settings) as pool:
            secret, record = await tokens.create(
                pool,
                name=name,
                tenant_id=tenant_id,
                project_ids=list(project_ids) or None,
                roles=[tokens.Role(role) for role in roles],
                expires_at=datetime.now(UTC) + timedelta(days=days) if days else None,
            )
        click.echo(f"id: {record.token_id}", err=True)
        click.echo(secret)

    run_command(create(), settings)


@token.command("list")
@click.option("--tenant", "tenant_id", type=click.UUID, help="Only the tokens of this tenant.")
def list_tokens(tenant_id: UUID | None) -> None:
    """List the tokens, without their secrets, which are not stored."""
    settings = load_settings("postgres.dsn")

    async def show() -> None:
        async with _database(settings) as pool:
            found = await tokens.list_all(pool, tenant_id)
        table = Table("id", "name", "tenant", "projects", "roles", "created", "state", box=None)
        for record in found:
            table.add_row(
                str(record.token_id),
                Text(record.name),
                str(record.tenant_id),
                "all" if record.project_ids is None else "\n".join(map(str, record.project_ids)),
                ", ".join(record.roles),
                f"{record.created_at:%Y-%m-%d %H:%M}",
                _state(record),
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
        async with _database(settings) as pool:
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


@click.group()
def audit() -> None:
    """Check that history has not been altered."""


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
def verify(anchor: "Anchor | None") -> None:
    """Recompute every digest and chain of the event store and name the first fault.

    Exits with status 1 if there is one, and with 2 if the database cannot be read.
    """
    from nbledger_infrastructure.postgres.event_store.audit import verify as verify_store

    settings = load_settings("postgres.dsn")

    async def check() -> bool:
        async with _database(settings) as pool:
            report = await verify_store(pool, anchor=anchor)
        click.echo(
            f"{report.events} events in {report.streams} streams verified, "
            f"{report.erased} of them erased"
        )
        if report.fault is None:
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


async def rebuild_read_model(settings: Settings, name: str) -> None:
    """Build a read model anew and say how far it is."""
    from nbledger_projections.rebuild import UnknownProjectionError, rebuild

    try:
        await rebuild(settings, name, lambda step: click.echo(step, err=True))
    except UnknownProjectionError as error:
        raise click.ClickException(str(error)) from None
