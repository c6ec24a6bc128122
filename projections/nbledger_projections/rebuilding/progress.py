"""How far projections are that are being built: told to who waits, and kept for those who ask."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import moments
from nbledger_projections.rebuilding.beside import Beside

Purpose = Literal["rebuild", "verify"]
Phase = Literal["folding", "finishing", "waiting", "comparing", "done", "failed"]

REPORT_SECONDS: Final = 1.0
PACE_SECONDS: Final = 30.0
"""Over how long events per second are taken."""


class Progress(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where one projection is.

    ``position`` is that of the last event folded, of ``target``. ``per_second`` counts events,
    lately; ``seconds_left`` are estimated by that, and ``None`` where that cannot be told.
    """

    name: str
    phase: Phase
    position: int
    target: int
    percent: int
    per_second: float | None = None
    seconds_left: float | None = None


Tell = Callable[[Sequence[Progress]], None]
"""Is told where every projection is that is being built, about once a second."""


def unheard(_: Sequence[Progress]) -> None:
    """Progress that nobody follows."""


def percent(position: int, target: int) -> int:
    """How much of ``target`` has been folded; 100 only when all of it has."""
    return 100 if position >= target else 100 * position // target


def seconds_left(position: int, target: int, per_second: float | None) -> float | None:
    """Seconds until ``target`` is folded at this pace."""
    if position >= target:
        return 0.0
    return round((target - position) / per_second, 1) if per_second else None


_KEEP: Final = """
INSERT INTO projection_rebuild AS kept (name, purpose, phase, position, target, per_second)
SELECT name, $2, phase, position, target, per_second
FROM unnest($1::text[], $3::text[], $4::bigint[], $5::bigint[], $6::double precision[])
    AS told (name, phase, position, target, per_second)
ON CONFLICT (name) DO UPDATE SET
    purpose = excluded.purpose, phase = excluded.phase, position = excluded.position,
    target = excluded.target, per_second = excluded.per_second, updated_at = clock_timestamp(),
    started_at = CASE WHEN $7 THEN clock_timestamp() ELSE kept.started_at END
"""

_FORGET: Final = "DELETE FROM projection_rebuild WHERE name = ANY($1)"


class Reporter:
    """Tells of several projections, and keeps what it tells in the table ``projection_rebuild``."""

    def __init__(self, pool: Pool, purpose: Purpose, tell: Tell = unheard) -> None:
        self._pool, self._purpose, self._tell = pool, purpose, tell
        self._built: dict[str, Beside] = {}
        self._phases: dict[str, Phase] = {}
        self._paces: dict[str, deque[tuple[float, int]]] = {}
        self._at = 0.0

    async def begin(self, built: Sequence[Beside]) -> None:
        """Tell of these from now on."""
        self._built = {each.name: each for each in built}
        self._phases = dict.fromkeys(self._built, "folding")
        self._paces = {name: deque([(time.monotonic(), 0)]) for name in self._built}
        await self._report(began=True)

    async def at(self, name: str, phase: Phase) -> None:
        """Tell that ``name`` comes to ``phase``."""
        self._phases[name] = phase
        await self._report()

    async def pulse(self) -> None:
        """Tell, if it is some time ago."""
        if time.monotonic() - self._at > REPORT_SECONDS:
            await self._report()

    async def end(self) -> None:
        """Keep nothing any more."""
        async with acquire(self._pool) as connection:
            await forget(connection, list(self._built))

    async def _report(self, *, began: bool = False) -> None:
        self._at = time.monotonic()
        async with acquire(self._pool) as connection:
            head = await moments.head(connection)
            told = [self._progress(built, head) for built in self._built.values()]
            await connection.execute(
                _KEEP,
                [each.name for each in told],
                self._purpose,
                [each.phase for each in told],
                [each.position for each in told],
                [each.target for each in told],
                [each.per_second for each in told],
                began,
            )
        self._tell(told)

    def _progress(self, built: Beside, head: int) -> Progress:
        pace = self._paces[built.name]
        pace.append((self._at, built.position))
        while len(pace) > 2 and self._at - pace[0][0] > PACE_SECONDS:
            pace.popleft()
        seconds, events = self._at - pace[0][0], built.position - pace[0][1]
        per_second = round(events / seconds, 1) if seconds > 0 and events else None
        target = max(head if built.until is None else built.until, built.position)
        return Progress(
            name=built.name,
            phase=self._phases[built.name],
            position=built.position,
            target=target,
            percent=percent(built.position, target),
            per_second=per_second,
            seconds_left=seconds_left(built.position, target, per_second),
        )


async def forget(connection: PooledConnection, names: Sequence[str]) -> None:
    """Forget what is kept of these."""
    await connection.execute(_FORGET, names)
