"""Filters of executions, places in their list, and requests to do something to many of them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from nbledger_domain.errors import Fault
from nbledger_domain.execution_action import ActionKind
from nbledger_domain.filtering import EVERYTHING, Filter, FilterError, parse
from nbledger_domain.filtering.parsing import MAX_LENGTH
from nbledger_http.requests.declared import FaultReport, read_object
from nbledger_http.requests.json_bodies import MAX_TOLD
from nbledger_http.requests.queries import MAX_POSITION
from nbledger_http.security.access import guid
from nbledger_projections.read_models.executions.listing import Cursor

MAX_IDS = 10_000
"""A request names so many executions at most."""

MAX_FOUND = 50_000
"""Something is done to so many executions at most that a filter finds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(r"(\d{1,17})-(\d{1,19})\Z", re.ASCII)

FilterText = Annotated[
    str,
    Meta(
        max_length=MAX_LENGTH,
        description="Conditions in the form of AIP-160, such as "
        '`status = Error AND tag:nightly AND requested >= "2024-01-01T00:00:00Z"`. Fields are '
        "status, phase, terminationCode, tag, notebook, requestedBy, cause, and the times "
        "requested, started, ended.",
        examples=["status = Error AND tag:nightly"],
    ),
]


class ExecutionsQuery(msgspec.Struct, rename="camel", kw_only=True):
    """Which executions are listed, and from where on."""

    filter: FilterText | None = None
    sort: Annotated[
        Literal["-requested", "requested"],
        Meta(description="By when they were requested: newest (-requested) or oldest first."),
    ] = "-requested"
    cursor: (
        Annotated[
            str,
            Meta(max_length=40, description="`next` of the page before; none for the first page."),
        ]
        | None
    ) = None
    page_size: Annotated[int, Meta(ge=1, le=100, description="Items per page.")] = 20


class ExecutionActionRequest(
    msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True
):
    """What to do, and to which executions: those in `ids`, or those that `filter` finds.

    With a filter, `expectedCount` is how many it is to find. With `dryRun` it is told how many
    there are, and nothing is done.
    """

    action: ActionKind
    ids: (
        Annotated[
            list[Annotated[str, Meta(extra_json_schema={"format": "uuid"})]],
            Meta(max_length=MAX_IDS),
        ]
        | None
    ) = None
    filter: FilterText | None = None
    expected_count: Annotated[int, Meta(ge=0, le=MAX_FOUND)] | None = None
    dry_run: bool = False


class AskedAction(msgspec.Struct, frozen=True):
    """What was asked for: ``ids``, or what the filter ``text`` finds, which has been read once."""

    action: ActionKind
    ids: list[UUID]
    text: str | None
    expected: int | None
    dry_run: bool


def wanted_by(text: str | None, pointer: str, report: FaultReport) -> Filter:
    """The filter in ``text``; what is wrong with it is told at ``pointer``, with its place."""
    if not text:
        return EVERYTHING
    try:
        return parse(text)
    except FilterError as error:
        report.faults.extend(Fault(pointer, str(fault)) for fault in error.faults)
        return EVERYTHING


def cursor_of(text: str | None, report: FaultReport) -> Cursor | None:
    """The place that a cursor names."""
    if text is None:
        return None
    found = _CURSOR.match(text)
    if found is not None and int(found[2]) <= MAX_POSITION:
        # No number of so many digits is beyond what a time can be.
        return Cursor(_EPOCH + timedelta(microseconds=int(found[1])), int(found[2]))
    report.fault("?cursor", "must be what a page of this list had in next")
    return None


def cursor_text(cursor: Cursor | None) -> str | None:
    """The cursor that names this place."""
    if cursor is None:
        return None
    return f"{(cursor.requested_at - _EPOCH) // timedelta(microseconds=1)}-{cursor.position}"


def asked_action(body: dict[str, Any]) -> AskedAction:
    """What the body asks for. Raises :class:`InvalidInputError` with every fault."""
    report = FaultReport()
    asked = read_object(ExecutionActionRequest, body, report)
    ids: list[UUID] = []
    if asked.ids is not None and asked.filter is not None:
        report.fault("/ids", "does not go with filter; send one of them")
    elif asked.ids is not None:
        ids = _ids(asked.ids, report)
        if asked.expected_count is not None:
            report.fault("/expectedCount", "goes with filter; ids are counted as they are")
    elif asked.filter is None:
        report.fault("/filter", "is required, unless there are ids")
    else:
        wanted_by(asked.filter, "/filter", report)
        if not asked.filter.strip():
            report.fault("/filter", "must not be empty: it would find every execution there is")
        elif asked.expected_count is None and not asked.dry_run:
            report.fault(
                "/expectedCount",
                "is required with filter: how many executions it is to find, which dryRun tells",
            )
    report.check()
    return AskedAction(asked.action, ids, asked.filter, asked.expected_count, asked.dry_run)


def _ids(texts: list[str], report: FaultReport) -> list[UUID]:
    if not texts:
        report.fault("/ids", "must have at least one item")
    found = [guid(text) for text in texts]
    bad = [index for index, each in enumerate(found) if each is None]
    for index in bad[:MAX_TOLD]:
        report.fault(f"/ids/{index}", "must be the id of an execution, a GUID")
    return list(dict.fromkeys(each for each in found if each is not None))
