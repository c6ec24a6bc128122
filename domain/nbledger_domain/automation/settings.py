"""What a notebook's ``autoExecution`` asks for."""

from typing import Annotated, Final, Literal, Self
from uuid import UUID

import msgspec
from msgspec import Meta

from nbledger_domain.execution.values import RetryPolicy

ChangeKind = Literal["dataset", "cells"]
"""What may change: the bound dataset has a new version, or the notebook has other cells."""

KINDS: Final[tuple[ChangeKind, ...]] = ("dataset", "cells")

QUIET_SECONDS: Final = 5
LEAST_MAX_WAIT_SECONDS: Final = 60
MAX_WAIT_FACTOR: Final = 10

Quiet = Annotated[int, Meta(ge=0, le=86_400)]
MaxWait = Annotated[int, Meta(ge=0, le=864_000)]
MinInterval = Annotated[int, Meta(ge=0, le=31_536_000)]


class AutomationSettings(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"
):
    """When a change of one of the kinds ``on`` starts a run.

    A run starts ``quiet_seconds`` after the last change, but no later than ``max_wait_seconds``
    after the first, and never sooner than ``min_interval_seconds`` after the start of the run
    before it. Without ``max_wait_seconds`` it is ten times ``quiet_seconds``, at least a minute.
    The run's cells have ``cell_timeout`` seconds each, and the run ``retry_policy`` and ``tags``.
    """

    on: tuple[ChangeKind, ...] = KINDS
    quiet_seconds: Quiet = QUIET_SECONDS
    max_wait_seconds: MaxWait | None = None
    min_interval_seconds: MinInterval = 0
    cell_timeout: float | None = None
    retry_policy: RetryPolicy | None = None
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: "bool | AutomationSettings") -> "Self | AutomationSettings | None":
        """What the value of ``autoExecution`` means; ``None`` where it asks for nothing."""
        if isinstance(value, bool):
            return cls() if value else None
        return value

    @property
    def longest_wait(self) -> int:
        """Seconds after the first change at which a run starts, however many follow."""
        if self.max_wait_seconds is not None:
            return self.max_wait_seconds
        return max(LEAST_MAX_WAIT_SECONDS, MAX_WAIT_FACTOR * self.quiet_seconds)


AutoExecution = bool | AutomationSettings
"""The value of ``autoExecution``."""


def bound_dataset(settings: AutomationSettings, binding: str | None) -> UUID | None:
    """The dataset whose new versions start runs, where ``binding`` names one."""
    if "dataset" not in settings.on or binding is None:
        return None
    try:
        found = UUID(binding)
    except ValueError:
        return None
    # UUID() takes further forms; ids have one.
    return found if str(found) == binding.lower() else None
