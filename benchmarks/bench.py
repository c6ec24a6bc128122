"""What every figure is measured with: the loop, the scratch folder, the database server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import structlog
from rich.console import Console

from benchmarks.figures import alternate
from nbledger.embedded.postgres import EmbeddedPostgres, start_postgres
from nbledger_infrastructure.postgres.database import Pool, connect_pool, migrate

T = TypeVar("T")


@dataclass
class Bench:
    """One run of the benchmark.

    `quick` shrinks everything until the run only shows that it works; its figures mean nothing.
    `full` measures at the sizes that targets are of, where that takes many minutes.
    """

    runner: asyncio.Runner
    scratch: Path
    quick: bool
    rounds: int
    postgres: EmbeddedPostgres
    full: bool = False
    pools: list[Pool] = field(default_factory=list)
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the one event loop."""
        return self.runner.run(work)

    def say(self, text: str) -> None:
        """Tell the person who waits what goes on."""
        self.console.print(text, highlight=False)

    def alternate(
        self, sides: Sequence[Callable[[], float]], *, rounds: int | None = None
    ) -> list[list[float]]:
        """`figures.alternate`, with this run's number of rounds."""
        return alternate(sides, rounds or self.rounds, warm_up=not self.quick)

    def new_database(self, name: str, *, migrated: bool = True) -> str:
        """Make an empty database on the server and return its DSN."""
        dsn = urlunsplit(urlsplit(self.postgres.dsn)._replace(path=f"/{name}"))

        async def create() -> None:
            connection = await asyncpg.connect(self.postgres.dsn)
            try:
                await connection.execute(f"CREATE DATABASE {name}")
            finally:
                await connection.close()
            if migrated:
                await migrate(dsn)

        self.run(create())
        return dsn

    def connect(self, dsn: str) -> Pool:
        """A pool of connections, closed at the end of the run if not before."""
        pool = self.run(connect_pool(dsn, max_size=4, application_name="bench"))
        self.pools.append(pool)
        return pool

    def drop_database(self, name: str) -> None:
        """Drop it, and write its dirty pages so that they do not weigh on the next figure."""

        async def drop() -> None:
            connection = await asyncpg.connect(self.postgres.dsn)
            try:
                await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
                await connection.execute("CHECKPOINT")
            finally:
                await connection.close()

        self.run(drop())


@contextmanager
def bench(scratch: Path, *, quick: bool, full: bool = False) -> Iterator[Bench]:
    """Start the loop and the database server; end both afterwards.

    The server runs with what `nbledger up` gives it (fsync on) but for more room before a
    checkpoint, so that none falls into one side's round and not into the other's.
    """
    import uvloop  # noqa: PLC0415 - absent on some platforms; the benchmark needs it

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    scratch.chmod(0o711)  # for the database's own user, when this runs as root
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        postgres = runner.run(
            start_postgres(
                scratch / "postgres",
                settings={"max_wal_size": "4GB", "checkpoint_timeout": "30min"},
            )
        )
        try:
            run = Bench(runner, scratch, quick, 1 if quick else 5, postgres, full)
            try:
                yield run
            finally:
                for pool in run.pools:
                    pool.terminate()
        finally:
            runner.run(postgres.stop())
