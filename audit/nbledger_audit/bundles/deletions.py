"""The deletions that took the data of erased events."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from nbledger_audit.bundles.lines import CoveringErasure
from nbledger_audit.bundles.selecting import LogPlace, LogSelection
from nbledger_domain.transparency.entries import moment
from nbledger_domain.transparency.erasures import DELETIONS
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import Metadata

_MOST_KEPT: Final = 10_000

_DELETIONS: Final = """
SELECT DISTINCT ON (subject_id) subject_id, position, recorded_at, metadata FROM event
WHERE subject_id = ANY($1) AND stream_id = subject_id AND tenant_id = $2 AND type = ANY($3)
ORDER BY subject_id, position
"""

_ERASED_SUBJECTS: Final = """
SELECT DISTINCT subject_id FROM event WHERE position = ANY($1) AND tenant_id = $2 AND data IS NULL
"""


class Deletions:
    """Finds the deletion of each subject; those found last are kept."""

    def __init__(self, connection: PooledConnection, selection: LogSelection) -> None:
        self._connection = connection
        self._selection = selection
        self._found: dict[UUID, CoveringErasure | None] = {}

    async def of(self, subjects: Iterable[UUID]) -> dict[UUID, CoveringErasure | None]:
        """What erased each of these subjects; None where no event up to the checkpoint says so."""
        wanted = set(subjects)
        unknown = wanted - self._found.keys()
        if unknown:
            if len(self._found) + len(unknown) > _MOST_KEPT:
                self._found.clear()
                unknown = wanted
            self._found |= await self._read(unknown)
        return {subject: self._found[subject] for subject in wanted}

    async def outside(self) -> list[LogPlace]:
        """Deletions that erased something of the selection without being in it, by number."""
        scope = self._selection.scope
        if not scope.has_range and scope.kind != "execution":
            return []
        found: set[tuple[int, int]] = set()
        inside: set[int] = set()
        async for places in self._selection.places():
            positions = [place.position for place in places]
            inside.update(await self._deletions_among(positions))
            rows = await self._connection.fetch(_ERASED_SUBJECTS, positions, scope.tenant_id)
            erased = await self.of(row["subject_id"] for row in rows)
            found |= {(each.number, each.position) for each in erased.values() if each is not None}
        return [LogPlace(*each) for each in sorted(found) if each[1] not in inside]

    async def _deletions_among(self, positions: list[int]) -> list[int]:
        rows = await self._connection.fetch(
            "SELECT position FROM event WHERE position = ANY($1) AND type = ANY($2)",
            positions,
            DELETIONS,
        )
        return [row["position"] for row in rows]

    async def _read(self, subjects: set[UUID]) -> dict[UUID, CoveringErasure | None]:
        tenant_id = self._selection.scope.tenant_id
        rows = await self._connection.fetch(_DELETIONS, list(subjects), tenant_id, DELETIONS)
        places = await self._selection.numbered(sorted(row["position"] for row in rows))
        numbers = {place.position: place.number for place in places}
        found: dict[UUID, CoveringErasure | None] = dict.fromkeys(subjects)
        for row in rows:
            if row["position"] in numbers:
                found[row["subject_id"]] = _erased(row, numbers[row["position"]])
        return found


def _erased(row: asyncpg.Record, number: int) -> CoveringErasure:
    metadata = msgspec.json.decode(row["metadata"], type=Metadata)
    return CoveringErasure(
        number, row["position"], moment(row["recorded_at"]), metadata.responsible
    )
