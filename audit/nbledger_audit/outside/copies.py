"""Copies of checkpoints, and of their timestamps, in a folder or bucket that forgets nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final
from uuid import UUID

from nbledger_audit import logs
from nbledger_audit.outside import deliveries
from nbledger_audit.outside.couriers import Deliver
from nbledger_audit.outside.deliveries import Delivered
from nbledger_infrastructure.artifacts.errors import ArtifactStoreUnavailableError
from nbledger_infrastructure.artifacts.once import WriteOnce, open_once
from nbledger_infrastructure.postgres.database import Pool, acquire

AT_ONCE: Final = 100


class Copies:
    """Writes the newest checkpoint of each log to a place, at most every ``every_seconds``.

    A checkpoint covers all before it, so a copy of each one would prove nothing more. ``url`` is as
    of :func:`open_once`.
    """

    name = "copies"
    faults: tuple[type[Exception], ...] = (ArtifactStoreUnavailableError,)

    def __init__(self, pool: Pool, url: str, every_seconds: float) -> None:
        self._pool = pool
        self._url = url
        self._every = every_seconds
        self._place: WriteOnce | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Deliver]:
        """As of ``Outlet``."""
        # Always the same one, which knows whether a write of an earlier time still hangs.
        if self._place is None:
            self._place = open_once(self._url)
        yield partial(self._deliver, self._place)

    async def _deliver(self, place: WriteOnce) -> bool:
        async with acquire(self._pool) as connection:
            due = await deliveries.due(
                connection, self.name, self._url, every_seconds=self._every, limit=AT_ONCE
            )
        for each in due:
            async with acquire(self._pool) as connection:
                newest = await logs.newest(connection, each.tenant_id)
            if newest is None:
                continue
            name = file_name(each.tenant_id, newest.confirmed_at, newest.size)
            await place.put(f"{name}.checkpoint", newest.note.encode())
            await self._note(self.name, each.tenant_id, newest.size, newest.confirmed_at)
        return await self._deliver_stamps(place) or len(due) == AT_ONCE

    async def _deliver_stamps(self, place: WriteOnce) -> bool:
        """Timestamps, each beside the checkpoint that it is of."""
        outlet = f"{self.name}.timestamps"
        async with acquire(self._pool) as connection:
            due = await deliveries.stamps_due(connection, outlet, self._url, AT_ONCE)
        for tenant_id, stamp in due:
            name = file_name(tenant_id, stamp.stamped_at, stamp.size)
            await place.put(f"{name}.checkpoint", stamp.note.encode())
            await place.put(f"{name}.tsr", stamp.response)
            await self._note(outlet, tenant_id, stamp.size, stamp.stamped_at)
        return len(due) == AT_ONCE

    async def _note(self, outlet: str, tenant_id: UUID, size: int, at: datetime) -> None:
        async with acquire(self._pool) as connection:
            have = [Delivered(tenant_id, size, at)]
            await deliveries.delivered(connection, outlet, self._url, have)


def file_name(tenant_id: UUID, at: datetime, size: int) -> str:
    """The path of a copy without its ending: names of a log sort by time."""
    return f"{tenant_id}/{at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{size}"
