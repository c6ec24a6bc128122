"""What is asked for: whose events, and of which time."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from nbledger_domain.transparency.entries import moment

Kind = Literal["tenant", "project", "notebook", "execution", "dataset", "library"]
SUBJECTS = frozenset({"notebook", "dataset", "library"})
"""Kinds whose events are those of one subject."""


class HistoryScope(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a tenant, or of one project, notebook, … of it.

    ``id`` is None for a tenant. The time range is of ``recordedAt``: ``since`` is in it and
    ``until`` is not; None is open.
    """

    tenant_id: UUID
    kind: Kind = "tenant"
    id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def whole(self) -> bool:
        """Whether it takes every event of the tenant."""
        return self.kind == "tenant" and not self.has_range

    @property
    def has_range(self) -> bool:
        """Whether it has a time range."""
        return self.since is not None or self.until is not None

    def described(self) -> dict[str, str | None]:
        """The scope as ``bundle.json`` tells it."""
        return {
            "kind": self.kind,
            "id": None if self.id is None else str(self.id),
            "from": None if self.since is None else moment(self.since),
            "until": None if self.until is None else moment(self.until),
        }

    def __str__(self) -> str:
        return f"tenant {self.tenant_id}" if self.id is None else f"{self.kind} {self.id}"
