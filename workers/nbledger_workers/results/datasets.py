"""Datasets of a run: those that it is given, as CSV, and those that it makes."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from pathlib import Path
from typing import Final, Literal
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
from nbledger_infrastructure.programs import Program
from nbledger_workers.kernel.driving.pair import python_environment
from nbledger_workers.results.descriptions import ParquetTable

log = structlog.get_logger(__name__)

_READ_SECONDS: Final = 600.0
_MOST_FACTS_BYTES: Final = 64 * 1024 * 1024
"""What may be told of a table: of 5,000 columns, names of 1,000 characters."""


class InvalidTableError(Exception):
    """The file is no table that can be kept as a dataset."""


class TableReader:
    """Reads tables of a notebook's making, in a process of its own: nobody vouches for them.

    The process starts with the first table, and anew after one that has ended it. One caller at a
    time.
    """

    def __init__(self) -> None:
        self._program: Program | None = None

    async def read(self, path: Path, kind: Literal["parquet", "csv"], folder: Path) -> ParquetTable:
        """What a notebook handed back, as a Parquet file: itself, or one made in ``folder``.

        Raises :class:`InvalidTableError`.
        """
        program = self._program
        if program is None:
            program = self._program = await Program.start(
                [sys.executable, "-P", "-m", "nbledger_workers.results.table_facts"],
                env=python_environment(),
                stdin=True,
                stderr=False,
                line_bytes=_MOST_FACTS_BYTES,
            )
        answer = b""
        try:
            async with asyncio.timeout(_READ_SECONDS):
                answer = await program.ask(msgspec.json.encode([str(path), kind, str(folder)]))
        except TimeoutError:
            raise InvalidTableError("it takes too long to read") from None
        except (ConnectionError, ValueError) as error:
            raise InvalidTableError("it could not be read") from error
        finally:
            if not answer.endswith(b"\n"):
                await self.close()
        if not answer:
            raise InvalidTableError(f"reading it ended the process ({program.status})")
        told = msgspec.json.decode(answer, type=ParquetTable | str)
        if isinstance(told, str):
            raise InvalidTableError(told)
        return told

    async def close(self) -> None:
        """End the process."""
        program, self._program = self._program, None
        if program is not None:
            await program.end()


async def write_csv(source: Path, target: Path) -> bool:
    """Write a Parquet file as CSV as well; whether that could be done."""
    command = [sys.executable, "-m", "nbledger_workers.results.table_csv", str(source), str(target)]
    reason = ""
    async with await Program.start(command, env=python_environment(), stdout=False) as program:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                finished = await program.finish()
        except TimeoutError:
            reason = "it takes too long"
        else:
            reason = finished.last_line if finished.status else ""
    if reason:
        await asyncio.to_thread(target.unlink, missing_ok=True)
        log.warning("dataset not written as CSV", reason=reason[-300:])
    return not reason


async def keep_version(
    store: EventStore,
    artifacts: ArtifactStore,
    notebook: Stream,
    table: ParquetTable,
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
