"""What requests for histories ask for: filters, times, order, and where to go on."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

import msgspec
from litestar import Request
from msgspec import Meta

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.histories.event_types import unknown_type
from nbledger_http.requests import queries
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, guid
from nbledger_infrastructure.postgres.database import acquire
from nbledger_infrastructure.postgres.event_store import moments
from nbledger_projections.read_models.histories.selection import (
    LAST,
    Between,
    Filter,
    Order,
)

MAX_EVENTS: Final = 1000
MAX_VALUES: Final = 100
"""A filter names so many types, actors, streams or tags at most."""

QUOTED: Final = 'One with commas stands in quotes: `"a, b",c`.'
"""What the descriptions of filters say whose values may have commas."""

T = TypeVar("T")

_VALUE: Final = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"\\]|\\["\\])*)"\s*|(?P<plain>[^,]*))(?P<more>,|\Z)'
)
_ESCAPED: Final = re.compile(r'\\(["\\])')

Time = Annotated[
    datetime, Meta(tz=True, extra={"reason": "must be a time such as 2024-01-20T10:30:00.000Z"})
]
After = Annotated[
    int, Meta(ge=0, le=queries.MAX_POSITION, description="Only events after this position.")
]
Limit = Annotated[int, Meta(ge=1, le=MAX_EVENTS, description="How many events a page has at most.")]
Actor = (
    Annotated[
        str,
        Meta(
            max_length=2000,
            description="Only what these have done, or had done by the service: names or ids of "
            "principals, or parts of the service such as scheduler; several with commas between. "
            f"{QUOTED}",
        ),
    ]
    | None
)
Types = (
    Annotated[
        str,
        Meta(
            max_length=2000,
            description="Only events of these types, or whose type begins so: "
            "`execution.requested.v1`, `execution.requested`, `execution`; several with commas "
            "between.",
        ),
    ]
    | None
)


class HistoryQuery(msgspec.Struct, kw_only=True):
    """Which events are told, and in which order.

    Times are those of recording, which never fall as positions rise.
    """

    after: After = 0
    before: (
        Annotated[
            int,
            Meta(ge=0, le=queries.MAX_POSITION, description="Only events before this position."),
        ]
        | None
    ) = None
    limit: Limit = 100
    sort: Annotated[
        Literal["position", "-position"],
        Meta(description="Oldest (position) or newest (-position) first."),
    ] = "position"
    type: Types = None
    actor: Actor = None
    since: Annotated[Time, Meta(description="Only events recorded then or later.")] | None = (
        msgspec.field(name="from", default=None)
    )
    to: Annotated[Time, Meta(description="Only events recorded before then.")] | None = None

    @property
    def order(self) -> Order:
        """Which come first."""
        return "oldest" if self.sort == "position" else "newest"


async def bounds_of(services: Services, query: HistoryQuery) -> Between:
    """The positions that positions and times of the query come to. Raises as :func:`narrowed`."""
    if query.before is not None and query.before < query.after:
        raise InvalidInputError([Fault("?before", "is less than after")])
    bounds = Between(after=query.after, before=LAST if query.before is None else query.before)
    return await narrowed(services, bounds, query.since, query.to)


async def narrowed(
    services: Services,
    bounds: Between,
    since: datetime | None,
    to: datetime | None,
    *,
    pointer: str = "?after",
) -> Between:
    """The bounds, and within these times of recording.

    Raises :class:`InvalidInputError` for times that are the wrong way round, and where there is no
    event yet up to where it is to go on, which ``pointer`` says: whoever waits there would miss
    events.
    """
    if since is not None and to is not None and to < since:
        raise InvalidInputError([Fault("?to", "is earlier than from")])
    if since is None and to is None and not bounds.after:
        return bounds
    after, before = bounds.after, bounds.before
    async with acquire(services.pool) as connection:
        if after and after > (head := await moments.head(connection)):
            reason = f"is beyond the last event, which is at position {head}"
            raise InvalidInputError([Fault(pointer, reason)])
        if since is not None:
            after = max(after, await moments.last_before(connection, since))
        if to is not None:
            before = min(before, await moments.last_before(connection, to) + 1)
    return Between(after=after, before=before)


async def filter_of(
    request: Request[Any, Any, Any],
    *,
    types: str | None = None,
    actor: str | None = None,
    streams: str | None = None,
    tags: str | None = None,
) -> Filter:
    """The filter that parameters of a query write. Raises :class:`InvalidInputError`."""
    faults: list[Fault] = []
    found = Filter(
        types=_each(types, "?type", _type_in, faults),
        streams=_each(streams, "?stream", _id_in, faults),
        tags=_each(tags, "?tag", str, faults),
        actors=None if actor is None else _each(actor, "?actor", str, faults),
    )
    if faults:
        raise InvalidInputError(faults)
    if found.actors is None:
        return found
    names, access = services_of(request).names, access_of(request)
    known = await names.actors(access.tenant_id, found.actors)
    actors = [*found.actors, *(each for ids in known.values() for each in ids)]
    return msgspec.structs.replace(found, actors=tuple(dict.fromkeys(actors)))


def _each(
    text: str | None, pointer: str, read: Callable[[str], T], faults: list[Fault]
) -> tuple[T, ...]:
    """What stands between the commas; what is wrong with it goes into ``faults``."""
    found: list[T] = []
    for number, (part, quoted) in enumerate(() if text is None else _parts(text)):
        if number == MAX_VALUES:
            faults.append(Fault(pointer, f"must have at most {MAX_VALUES} values"))
            return ()
        try:
            found.append(read(part if quoted and part else _plain(part)))
        except ValueError as error:
            faults.append(Fault(pointer, str(error)))
    return tuple(found)


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Each value, and whether it stood in quotes: then it may have commas, and escapes quotes."""
    place, more = 0, ","
    while more and (found := _VALUE.match(text, place)):
        place, more = found.end(), found["more"]
        quoted = found["quoted"]
        if quoted is None:
            yield found["plain"].strip(), False
        else:
            yield _ESCAPED.sub(r"\1", quoted), True


def _plain(text: str) -> str:
    if not text:
        raise ValueError("has nothing between two commas, or no value")
    if text.startswith('"'):
        raise ValueError('has a quote without its end; within quotes one is written \\"')
    return text


def _type_in(text: str) -> str:
    if reason := unknown_type(text):
        raise ValueError(reason)
    return text


def _id_in(text: str) -> UUID:
    found = guid(text)
    if found is None:
        raise ValueError("must be ids of streams")
    return found
