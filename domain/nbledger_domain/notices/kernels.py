"""Notices of a kernel type for which runs of a project wait while no worker offers it."""

from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID, uuid5

from eventsourcing.domain import BaseAggregate, CanMutateAggregate

from nbledger_domain.events import DomainEvent, register

OutageEnd = Literal["worker_alive", "nothing_waits"]
"""Why an outage is over: a worker offers the kernel type again, or no run waits for it any more."""


def kernel_notice_id(tenant_id: UUID, project_id: UUID, kernel_type: str) -> UUID:
    """The stream of what a project is told of a kernel type."""
    return uuid5(project_id, f"notice.kernel {tenant_id} {kernel_type}")


class KernelNotice(BaseAggregate[UUID]):
    """What a project is told of a kernel type: that workers are missing and, in turn, that not.

    The stream is never of a notebook, and so is its own subject.
    """

    def __init__(self) -> None:
        self.missing = False

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of a kernel type's notice. ``since`` is when workers were missed."""

        MISSING: ClassVar[bool]
        kernel_type: str
        since: datetime

        def mutate(self, aggregate: Any) -> Any:
            """The notice after this event, which may be its first."""
            if aggregate is not None:
                return CanMutateAggregate.mutate(self, aggregate)
            notice = KernelNotice.__new__(KernelNotice)
            notice.__base_init__(
                originator_id=self.originator_id,
                originator_version=self.originator_version,
                timestamp=self.timestamp,
            )
            notice.__init__()  # type: ignore[misc]
            self.apply(notice)
            return notice

        def apply(self, aggregate: "KernelNotice") -> None:
            """It is so from now on."""
            aggregate.missing = self.MISSING

    class Unavailable(Event, frozen=True, kw_only=True):
        """No worker is alive that offers it, and so many runs of the project wait for one.

        ``waiting_since`` is when the first of these was asked for.
        """

        TYPE: ClassVar[str] = "notice.kernel-unavailable.v1"
        MISSING: ClassVar[bool] = True
        waiting: int
        waiting_since: datetime

    class Available(Event, frozen=True, kw_only=True):
        """That is over, for this reason."""

        TYPE: ClassVar[str] = "notice.kernel-available.v1"
        MISSING: ClassVar[bool] = False
        reason: OutageEnd


register(KernelNotice)
