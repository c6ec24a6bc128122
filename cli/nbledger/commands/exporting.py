"""``nbledger audit export``: history with its proofs, in a bundle that anybody can check."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from nbledger.role import ARTIFACTS, load_settings, run_command
from nbledger_infrastructure.postgres.database import close_pool, connect_pool

if TYPE_CHECKING:
    from nbledger_audit.bundles.manifest import BundleManifest
    from nbledger_audit.bundles.scopes import HistoryScope, Kind
    from nbledger_infrastructure.artifacts.store import ArtifactStore
    from nbledger_infrastructure.settings import Settings

KINDS: Final[tuple[Kind, ...]] = ("project", "notebook", "execution", "dataset", "library")
PROGRESS_SECONDS: Final = 5.0


class _NotExported(click.ClickException):
    """Nothing was written."""

    exit_code = 2


class _Moment(click.ParamType[datetime]):
    """A time with its zone, or a date, which begins at midnight UTC."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time: 2026-11-30, or 2026-11-30T12:00:00Z", param, ctx)
        if at.tzinfo is not None:
            return at
        if len(str(value)) > len("2026-11-30"):
            self.fail(f"{value!r} has no zone: end it with Z for UTC", param, ctx)
        return at.replace(tzinfo=UTC)


@click.command("export")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--tenant", "tenant_id", type=click.UUID, required=True, help="Whose history.")
@click.option("--project", type=click.UUID, help="Only the events of this project.")
@click.option("--notebook", type=click.UUID, help="Only those of this notebook and its runs.")
@click.option("--execution", type=click.UUID, help="Only those of this execution.")
@click.option("--dataset", type=click.UUID, help="Only those of this dataset.")
@click.option("--library", type=click.UUID, help="Only those of this library.")
@click.option(
    "--from", "since", type=_Moment(), help="Only what was recorded at that time or later."
)
@click.option("--until", type=_Moment(), help="Only what was recorded before that time.")
@click.option("--zip", "zipped", is_flag=True, help="Write a ZIP rather than a folder.")
@click.option("--no-artifacts", is_flag=True, help="Leave out outputs and files.")
@click.option("--json", "as_json", is_flag=True, help="Print bundle.json rather than sentences.")
def export(
    *,
    path: Path,
    tenant_id: UUID,
    since: datetime | None,
    until: datetime | None,
    zipped: bool,
    no_artifacts: bool,
    as_json: bool,
    **kinds: UUID | None,
) -> None:
    """Write a tenant's history, or a part of it, with all that proves it, to a new PATH.

    The bundle is a folder, or a ZIP, that anybody can check without nbledger: VERIFY.md in it says
    how. It ends at the newest checkpoint. PATH is there only once all of it is written. A TIME is
    2026-11-30T12:00:00Z, or a date, which begins at midnight UTC.

    Exits with status 0 once the bundle is written; with 1 where it is written and some data is
    missing that no deletion explains, so that it will not verify; with 2 where nothing was written.
    """
    chosen: list[tuple[Kind, UUID | None]] = [
        (kind, kinds[kind]) for kind in KINDS if kinds[kind] is not None
    ] or [("tenant", None)]
    if len(chosen) > 1:
        raise click.UsageError(f"only one of {', '.join(f'--{kind}' for kind in KINDS)}")
    if since is not None and until is not None and since >= until:
        raise click.BadParameter("must be after --from", param_hint="--until")
    from nbledger_audit.bundles.scopes import HistoryScope

    kind, chosen_id = chosen[0]
    scope = HistoryScope(tenant_id=tenant_id, kind=kind, id=chosen_id, since=since, until=until)
    settings = load_settings("postgres.dsn", *(() if no_artifacts else (ARTIFACTS,)))
    manifest = _exported(settings, scope, path, zipped=zipped, with_artifacts=not no_artifacts)
    if as_json:
        click.echo(manifest.encoded(), nl=False)
    else:
        _tell(manifest, scope, path)
    if manifest.uncovered_erasures:
        sys.exit(1)


def _exported(
    settings: Settings, scope: HistoryScope, path: Path, *, zipped: bool, with_artifacts: bool
) -> BundleManifest:
    from nbledger_audit.bundles.exporting import NothingToExportError
    from nbledger_audit.bundles.exporting import export as write
    from nbledger_audit.bundles.selecting import HistoryAlteredError
    from nbledger_audit.bundles.targets import BundleTarget, TargetTakenError
    from nbledger_infrastructure.artifacts.errors import ArtifactStoreUnavailableError

    async def main() -> BundleManifest:
        pool = await connect_pool(
            settings.postgres.dsn, max_size=2, application_name="nbledger-export"
        )
        try:
            with BundleTarget(path, zipped=zipped) as target:
                return await write(
                    pool,
                    scope,
                    target,
                    artifacts=_store(settings) if with_artifacts else None,
                    progress=_Progress(),
                )
        finally:
            await close_pool(pool)

    try:
        return run_command(main(), settings)
    except HistoryAlteredError as error:
        raise _NotExported(f"history was altered: {error}") from None
    except (NothingToExportError, TargetTakenError) as error:
        raise _NotExported(str(error)) from None
    except ArtifactStoreUnavailableError as error:
        raise _NotExported(f"the artifact store: {error.reason}") from None
    except OSError as error:
        raise _NotExported(f"{error.filename or path}: {error.strerror}") from None


def _store(settings: Settings) -> ArtifactStore:
    from nbledger_infrastructure.artifacts.store import ArtifactStore, open_store

    return ArtifactStore(open_store(settings.artifacts.url))


class _Progress:
    """Says now and then how far it is."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def __call__(self, events: int) -> None:
        if time.monotonic() - self._told_at >= PROGRESS_SECONDS:
            self._told_at = time.monotonic()
            click.echo(f"{events:,} events", err=True)


def _tell(manifest: BundleManifest, scope: HistoryScope, path: Path) -> None:
    kind = "all of them" if manifest.whole else "a part of the log"
    click.echo(
        f"wrote {path}: {manifest.events} events of {scope}, {kind}, "
        f"up to the checkpoint of {manifest.size} entries"
    )
    artifacts = manifest.artifacts
    if artifacts.included:
        click.echo(f"{artifacts.count} artifacts, {artifacts.bytes:,} bytes")
    for count, told in (
        (manifest.erased, "are erased"),
        (manifest.unsalted, "are from before digests had salt: nothing proves their data"),
        (manifest.not_yet_covered, "of the tenant since are not yet covered, and not in it"),
    ):
        if count:
            click.echo(f"{count} events {told}")
    if artifacts.missing:
        click.echo(f"{artifacts.missing} artifacts that events name are not in the artifact store")
    if manifest.uncovered_erasures:
        click.echo(
            f"{manifest.uncovered_erasures} events have no data, and no deletion that the "
            "checkpoint covers explains it: the bundle will not verify",
            err=True,
        )
