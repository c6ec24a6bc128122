"""Which events are read: of whom, between which positions, by which filter."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

Order = Literal["oldest", "newest"]

LAST: Final = 2**63 - 1
"""Beyond every position."""

_VERSIONED: Final = re.compile(r".*\.v[0-9]+")


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for of the events; an empty part is no condition.

    ``types`` are whole, or beginnings: `execution`, `execution.requested`. ``actors`` are as events
    hold them. ``tags`` are of executions: of those the events of runs that were asked for with one
    of them.
    """

    types: tuple[str, ...] = ()
    actors: tuple[str, ...] | None = None
    streams: tuple[UUID, ...] = ()
    tags: tuple[str, ...] = ()


class Between(msgspec.Struct, frozen=True, kw_only=True):
    """Positions that are not themselves among those that are read."""

    after: int = 0
    before: int = LAST


class Selection:
    """Conditions on events with their values; conditions are constants with ``{}`` for a value.

    ``index`` are columns, with their values, that an index has before the one ``by`` which the
    events are ordered: position, or within one stream version, which is in the same order. Ranges
    and order name all columns of the index: it alone gives that order. By equality and position
    the planner may read the whole table by position instead, where it takes events of a project to
    be everywhere.
    """

    def __init__(
        self,
        *conditions: tuple[str, Any],
        index: Mapping[str, Any] | None = None,
        by: Literal["position", "version"] = "position",
    ) -> None:
        self.by: Literal["position", "version"] = by
        self._index = dict(index or {})
        self._conditions: list[str] = []
        self.values: list[Any] = []
        for condition, value in conditions:
            self._add(condition, value)

    def _add(self, condition: str, *values: Any) -> None:
        first = len(self.values)
        numbers = [f"${first + number}" for number in range(1, len(values) + 1)]
        self._conditions.append(condition.format(*numbers))
        self.values.extend(values)

    def within(self, bounds: Between, filter: Filter | None = None) -> "Selection":  # noqa: A002
        """Those of these events that lie within ``bounds`` and meet the ``filter``."""
        narrowed = Selection(index=self._index, by=self.by)
        narrowed._conditions = list(self._conditions)
        narrowed.values = list(self.values)
        columns = ", ".join([*self._index, "position"])
        for sign, bound in ((">", bounds.after), ("<", bounds.before)):
            marks = ", ".join(["{}"] * (len(self._index) + 1))
            narrowed._add(f"({columns}) {sign} ({marks})", *self._index.values(), bound)
        if filter is not None:
            narrowed._filter(filter)
        return narrowed

    def _filter(self, filter: Filter) -> None:  # noqa: A002
        if filter.types:
            self._add("type LIKE ANY({}::text[])", list(map(_like, filter.types)))
        if filter.actors is not None:
            self._add(
                "(metadata ->> 'actor' = ANY({0}::text[])"
                " OR metadata ->> 'onBehalfOf' = ANY({0}::text[]))",
                list(filter.actors),
            )
        if filter.streams:
            self._add("stream_id = ANY({}::uuid[])", list(filter.streams))
        if filter.tags:
            # By the events themselves, not by a read model that may be behind them.
            self._add(
                "EXISTS (SELECT FROM event AS f WHERE f.stream_id = event.stream_id"
                " AND f.version = 1 AND f.type LIKE 'execution.requested.v%'"
                " AND (f.data -> 'tags')::jsonb ?| {}::text[])",
                list(filter.tags),
            )

    def ordered(self, order: Order) -> str:
        """The columns that put the events in order."""
        direction = "ASC" if order == "oldest" else "DESC"
        return ", ".join(f"{column} {direction}" for column in [*self._index, self.by])

    @property
    def text(self) -> str:
        """All conditions in one."""
        return " AND ".join(self._conditions)


def of_project(tenant_id: UUID, project_id: UUID) -> Selection:
    """All events of a project."""
    return Selection(index={"tenant_id": tenant_id, "project_id": project_id})


def of_tenant(tenant_id: UUID) -> Selection:
    """All events of a tenant, whichever project they are of."""
    return Selection(index={"tenant_id": tenant_id})


def of_subject(
    tenant_id: UUID, project_id: UUID, subject_id: UUID, kinds: Sequence[str] | None
) -> Selection:
    """Events of a notebook, dataset or the like, and of what belongs to it.

    ``kinds`` are the first parts of types; without them all are read, which of a notebook includes
    those of its runs.
    """
    conditions: list[tuple[str, Any]] = [
        ("tenant_id = {}", tenant_id),
        ("project_id = {}", project_id),
    ]
    if kinds is not None:
        conditions.append(("type LIKE ANY({}::text[])", [f"{kind}.%" for kind in kinds]))
    return Selection(*conditions, index={"subject_id": subject_id})


def of_stream(tenant_id: UUID, project_id: UUID, stream_id: UUID, kind: str) -> Selection:
    """Events of one stream, which is of this kind: the first part of its types."""
    return Selection(
        ("stream_id = {}", stream_id),
        ("type LIKE {}", f"{kind}.%"),
        ("tenant_id = {}", tenant_id),
        ("project_id = {}", project_id),
        by="version",
    )


def of_execution(
    tenant_id: UUID, project_id: UUID, notebook_id: UUID, execution_id: UUID, after_version: int = 0
) -> Selection:
    """Events of one run of a notebook; whoever knows the version of the last one skips others."""
    return Selection(
        ("stream_id = {}", execution_id),
        ("version > {}", after_version),
        ("subject_id = {} AND stream_id <> subject_id", notebook_id),
        ("tenant_id = {}", tenant_id),
        ("project_id = {}", project_id),
        by="version",
    )


def _like(type_name: str) -> str:
    return type_name if _VERSIONED.fullmatch(type_name) else f"{type_name}.%"
