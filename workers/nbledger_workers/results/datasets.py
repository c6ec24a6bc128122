"""Datasets of a run: those that it names, and those that it makes."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
import structlog

from nbledger_application.commands.dataset_versions import TableFile, add_version_of_run
from nbledger_domain.dataset import Source
from nbledger_domain.errors import DatasetNotFoundError
from nbledger_infrastructure.artifacts.store import ArtifactStore
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    Metadata,
    RecordConflictError,
    Stream,
)
from nbledger_workers.kernel.driving.pair import python_environment
from nbledger_workers.kernel.processes.helpers import end
from nbledger_workers.results.descriptions import Table

log = structlog.get_logger(__name__)

_MOST_NAMED: Final = 100
"""Datasets that the parameters of one run may name."""

_READ_SECONDS: Final = 600.0
_MOST_FACTS_BYTES: Final = 64 * 1024 * 1024
"""What may be told of a table: of 5,000 columns, names of 1,000 characters."""


class InvalidTableError(Exception):
    """The file is no table that can be kept as a dataset."""


def named(binding: str | None, parameters: dict[str, Any]) -> dict[str, UUID]:
    """The texts that may be ids of datasets: the binding, and values of parameters."""
    found: dict[str, UUID] = {}
    for text in (binding, *parameters.values()):
        if isinstance(text, str) and len(text) <= 50 and len(found) < _MOST_NAMED:
            try:
                found[text] = UUID(text)
            except ValueError:
                continue
    return found


class TableReader:
    """Reads tables of a notebook's making, in a process of its own: nobody vouches for them.

    The process starts with the first table, and anew after one that has ended it. One caller at a
    time.
    """

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def read(self, path: Path, kind: Literal["parquet", "csv"], folder: Path) -> Table:
        """What a notebook handed back, as a Parquet file: itself, or one made in ``folder``.

        Raises :class:`InvalidTableError`.
        """
        process = self._process
        if process is None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "nbledger_workers.results.table_facts",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=_MOST_FACTS_BYTES,
                env=python_environment(),
            )
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101
        answer = b""
        try:
            process.stdin.write(msgspec.json.encode([str(path), kind, str(folder)]) + b"\n")
            async with asyncio.timeout(_READ_SECONDS):
                await process.stdin.drain()
                answer = await process.stdout.readline()
        except TimeoutError:
            raise InvalidTableError("it takes too long to read") from None
        except (ConnectionError, ValueError) as error:
            raise InvalidTableError("it could not be read") from error
        finally:
            if not answer.endswith(b"\n"):
                await self.close()
        if not answer:
            raise InvalidTableError(f"reading it ended the process ({process.returncode})")
        told = msgspec.json.decode(answer, type=Table | str)
        if isinstance(told, str):
            raise InvalidTableError(told)
        return told

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            await end(process)


async def write_csv(source: Path, target: Path) -> bool:
    """Write a Parquet file as CSV as well; whether that could be done."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "nbledger_workers.results.table_csv",
        str(source),
        str(target),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=python_environment(),
    )
    try:
        async with asyncio.timeout(_READ_SECONDS):
            _, errors = await process.communicate()
    except TimeoutError:
        errors = b"it takes too long"
    finally:
        if process.returncode is None:
            await end(process)
    if process.returncode:
        await asyncio.to_thread(target.unlink, missing_ok=True)
        log.warning("dataset not written as CSV", reason=errors.decode("utf-8", "replace")[-300:])
    return process.returncode == 0


async def keep_version(
    store: EventStore,
    artifacts: ArtifactStore,
    notebook: Stream,
    table: Table,
    *,
    result_name: str,
    dataset_name: str,
    source: Source,
    metadata: Metadata,
    at: datetime,
) -> tuple[UUID, int]:
    """Keep a table as a version of its dataset: see :func:`add_version_of_run`.

    Raises :class:`InvalidTableError`.
    """
    try:
        return await add_version_of_run(
            store,
            artifacts,
            notebook,
            TableFile(Path(table.path), table.rows, table.columns),
            result_name=result_name,
            dataset_name=dataset_name,
            source=source,
            metadata=metadata,
            at=at,
        )
    except (DatasetNotFoundError, RecordConflictError) as error:
        raise InvalidTableError("its dataset was deleted or changed meanwhile") from error
