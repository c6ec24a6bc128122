"""The fields that a filter can name, and what it compares them with."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID

import msgspec

from nbledger_domain.execution import CauseKind, ExecutionStatus, Phase
from nbledger_domain.vocabulary.termination import TerminationCode

MAX_NAME: Final = 500
"""Of who asked for a run, so many characters are told to filters."""

FieldKind = Literal["choice", "text", "id", "time"]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field: its ``name`` in filters, and its ``attribute`` in :class:`Facts`.

    ``values`` are all that a choice can be. ``optional`` says that an execution may have none, and
    ``many`` that it may have several.
    """

    name: str
    attribute: str
    kind: FieldKind
    values: tuple[str, ...] = ()
    optional: bool = False
    many: bool = False

    @property
    def operators(self) -> tuple[str, ...]:
        """What the field can be compared by."""
        if self.kind == "time":
            return ("=", "!=", "<", "<=", ">", ">=", ":")
        return ("=", "!=", ":")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a filter looks at of one execution. Times are in UTC, to the millisecond.

    ``started`` is when a worker last took the run, and ``None`` while it waits.
    """

    status: str
    phase: str | None
    termination_code: str | None
    tags: tuple[str, ...]
    notebook_id: UUID
    requested_by: str
    cause: str
    requested: datetime
    started: datetime | None
    ended: datetime | None


FIELDS: Final[Mapping[str, Field]] = {
    field.name: field
    for field in (
        Field(name="status", attribute="status", kind="choice", values=tuple(ExecutionStatus)),
        Field(name="phase", attribute="phase", kind="choice", values=tuple(Phase), optional=True),
        Field(
            name="terminationCode",
            attribute="termination_code",
            kind="choice",
            values=tuple(code.value for code in TerminationCode),
            optional=True,
        ),
        Field(name="tag", attribute="tags", kind="text", optional=True, many=True),
        Field(name="notebook", attribute="notebook_id", kind="id"),
        Field(name="requestedBy", attribute="requested_by", kind="text"),
        Field(name="cause", attribute="cause", kind="choice", values=get_args(CauseKind)),
        Field(name="requested", attribute="requested", kind="time"),
        Field(name="started", attribute="started", kind="time", optional=True),
        Field(name="ended", attribute="ended", kind="time", optional=True),
    )
}
"""By name."""
