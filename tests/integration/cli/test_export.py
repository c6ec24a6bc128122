"""``nbledger audit export`` as a command: what it prints, its statuses, and when it is cut off."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner
from support.bundles import Ledger, check, open_ledger
from support.event_store import connect

from nbledger.commands.exporting import export

NOBODY = str(UUID(int=0))
SECONDS = 60
WAITING = """
SELECT count(*) FROM pg_locks WHERE NOT granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def environment(dsn: str, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "NBLEDGER_POSTGRES_DSN": dsn,
        "NBLEDGER_ARTIFACTS_URL": f"file://{folder}/artifacts",
    }


def run(dsn: str, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nbledger", "audit", "export", *map(str, words)],
        cwd=folder,
        env=environment(dsn, folder),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


async def test_what_is_written_is_told_with_a_status(database_dsn: str, tmp_path: Path) -> None:
    async with open_ledger(database_dsn, tmp_path) as ledger:
        tenant = ("--tenant", ledger.tenant_id)
        notebook = await ledger.notebook()
        await ledger.execution(notebook, 2)
        gone = await ledger.notebook()
        await ledger.delete(gone)
        await ledger.seal()
        await ledger.notebook()

        async def exported(*words: object) -> subprocess.CompletedProcess[str]:
            return await asyncio.to_thread(run, database_dsn, tmp_path, *words)

        ended = await exported(*tenant, "whole", "--until", "2999-01-01", "--json")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert json.loads(ended.stdout) == check(tmp_path / "whole")
        ended = await exported(*tenant, "part.zip", "--zip", "--project", ledger.project_id)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.splitlines() == [
            (
                f"wrote part.zip: 5 events of project {ledger.project_id}, a part of the log, "
                "up to the checkpoint of 5 entries"
            ),
            f"1 artifacts, {len('out of ') + 36} bytes",
            "2 events are erased",
            "1 events of the tenant since are not yet covered, and not in it",
        ]
        ended = await exported(*tenant, "--notebook", NOBODY, "x")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert f"there is no notebook {NOBODY} in tenant" in ended.stderr
        async with ledger.pool.acquire() as connection:
            await connection.execute(
                "UPDATE event SET data = NULL, salt = NULL WHERE subject_id = $1",
                notebook.subject_id,
            )
        ended = await exported(*tenant, "forged", "--no-artifacts")
        assert ended.returncode == 1
        assert "3 events have no data, and no deletion" in ended.stderr
        assert "bundle.json" in names(tmp_path / "forged")
    assert names(tmp_path) == {*("artifacts", "forged", "key.pem", "part.zip", "signed", "whole")}


async def blocked_export(ledger: Ledger, dsn: str, folder: Path, end: signal.Signals) -> int:
    """Begin an export, and end it by a signal in the middle of its events; returns its status."""
    async with connect(dsn) as other, other.transaction():
        await other.execute("LOCK TABLE log_tile IN ACCESS EXCLUSIVE MODE")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nbledger", "audit", "export"),
            *("--tenant", str(ledger.tenant_id), "--no-artifacts", "cut-off"),
            cwd=folder,
            env=environment(dsn, folder),
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(SECONDS):
            while not await other.fetchval(WAITING):  # noqa: ASYNC110 - another process waits
                await asyncio.sleep(0.05)
            (part,) = (name for name in names(folder) if name.startswith(".cut-off."))
            assert part.endswith(".part")
            assert "events.jsonl" in names(folder / part)
            process.send_signal(end)
            return await process.wait()


async def test_what_is_cut_off_never_has_the_name(database_dsn: str, tmp_path: Path) -> None:
    async with open_ledger(database_dsn, tmp_path) as ledger:
        await ledger.notebook()
        await ledger.seal()
        before = names(tmp_path)
        assert await blocked_export(ledger, database_dsn, tmp_path, signal.SIGINT) != 0
        assert names(tmp_path) == before
        assert await blocked_export(ledger, database_dsn, tmp_path, signal.SIGKILL) != 0
        (left,) = names(tmp_path) - before
        assert left.startswith(".cut-off.")
        await ledger.export(tmp_path / "cut-off")
        check(tmp_path / "cut-off")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--notebook", NOBODY, "--dataset", NOBODY), "only one of --project"),
        (("--from", "2026-11-30T12:00"), "has no zone"),
        (("--until", "soon"), "is no time"),
        (("--from", "2026-11-30", "--until", "2026-11-30"), "must be after --from"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(words: tuple[str, ...], told: str) -> None:
    ended = CliRunner().invoke(export, ["--tenant", NOBODY, *words, "path"])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert told in ended.stderr
