"""Triggers that something failed with: they are left alone for a while, and the others go on."""

import time
from collections.abc import Awaitable
from typing import Final, TypeVar
from uuid import UUID

import structlog

from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError

log = structlog.get_logger(__name__)

REST_SECONDS: Final = 5.0
"""Seconds for which a trigger is left alone after a failure."""

R = TypeVar("R")


def is_away(error: Exception) -> bool:
    """Whether the database is at fault. A statement that takes too long may be the trigger's."""
    return isinstance(error, (DatabaseUnavailableError, *UNAVAILABLE)) and not isinstance(
        error, TimeoutError
    )


class Resting:
    """Which triggers rest."""

    def __init__(self) -> None:
        self._until: dict[UUID, float] = {}

    def ids(self) -> list[UUID]:
        """The triggers that rest at this moment."""
        moment = time.monotonic()
        self._until = {each: until for each, until in self._until.items() if until > moment}
        return list(self._until)

    async def attempt(self, trigger_id: UUID, work: Awaitable[R]) -> R | None:
        """The result of ``work``; ``None`` where it fails, and the trigger rests.

        Raises what says that the database is away.
        """
        try:
            return await work
        except Exception as error:
            if is_away(error):
                raise
            log.exception("trigger held up", trigger_id=str(trigger_id))
            self._until[trigger_id] = time.monotonic() + REST_SECONDS
            return None
