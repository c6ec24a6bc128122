"""Which moment of the past a request asks for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import msgspec
from litestar import Request
from msgspec import Meta

from nbledger_application.caller import Right
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.past import moments
from nbledger_domain.past.errors import (
    LaterThanNowError,
)
from nbledger_domain.past.moments import AsOf
from nbledger_http.requests import queries
from nbledger_http.security.access import require

MAX_LENGTH: Final = 64

_FORMS: Final = (
    "a time with its zone (2026-11-29T10:30:00Z), or the position of an event, after which it is "
    "read"
)
NOTES: Final = (
    " With `asOf` the answer is the one of that moment, byte for byte but for names that were "
    "erased since; it takes the role auditor or admin."
)
"""What the descriptions of operations that take `asOf` say."""


AsOfText = Annotated[
    str, Meta(max_length=MAX_LENGTH, description=f"As of when: {_FORMS}. Without it: now.")
]
NotebookAsOfText = Annotated[
    str,
    Meta(
        max_length=MAX_LENGTH,
        description=f"As of when: {_FORMS}, or a version of the notebook (1.2.0), when it "
        "became that. Without it: now.",
    ),
]


class AsOfQuery(msgspec.Struct, rename="camel"):
    """As of when something is read."""

    as_of: AsOfText | None = None


class NotebookAsOfQuery(msgspec.Struct, rename="camel"):
    """As of when a notebook is read."""

    as_of: NotebookAsOfText | None = None


def as_of(
    request: Request[Any, Any, Any], kind: type[AsOfQuery] | type[NotebookAsOfQuery]
) -> AsOf | None:
    """The moment that is asked for, or ``None`` for now.

    Raises :class:`InvalidInputError`, and :class:`Problem` (403) for who may not read history.
    """
    query = queries.checked(request, kind)
    if query.as_of is None:
        return None
    require(request, Right.AUDIT)
    return moment("asOf", query.as_of, versions=kind is NotebookAsOfQuery)


def moment(parameter: str, text: str, *, versions: bool) -> AsOf:
    """The moment in a query parameter. Raises :class:`InvalidInputError`."""
    try:
        return moments.parse(text, versions=versions)
    except ValueError as error:
        raise InvalidInputError([Fault(f"?{parameter}", str(error))]) from None


@contextmanager
def in_parameter(parameter: str) -> Iterator[None]:
    """Tell of a moment that has not come yet as of a wrong value of the parameter."""
    try:
        yield
    except LaterThanNowError as error:
        raise InvalidInputError([Fault(f"?{parameter}", error.reason)]) from None
