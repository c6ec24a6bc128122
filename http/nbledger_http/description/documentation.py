"""How a handler describes itself; the OpenAPI document is put together from this."""

from typing import Any

import msgspec

from nbledger_http.replies.problems import Code

JSON = "application/json"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A header of a request."""

    name: str
    description: str
    type: str = "string"
    minimum: int | None = None


class FilePart(msgspec.Struct, frozen=True, kw_only=True):
    """The part ``file`` of a form."""

    media_type: str
    description: str


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What a request carries: a struct, or a JSON Schema.

    With a ``file`` it is a form of that and of text fields, the struct's.
    """

    schema: Any
    media_type: str = JSON
    required: bool = True
    example: Any = None
    file: FilePart | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A good answer: a type as JSON, or bytes of other media types. ``headers`` by name.

    ``opens`` leads to the id that other operations take, as a JSON pointer without its first
    slash; they are linked.
    """

    description: str
    schema: Any = None
    media_types: tuple[str, ...] = (JSON,)
    example: Any = None
    headers: dict[str, str] = {}
    opens: str = ""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    ``query`` is the struct of its query parameters. ``problems`` are those beyond what every
    operation may answer.
    """

    id: str
    tag: str
    summary: str
    description: str = ""
    query: type[msgspec.Struct] | None = None
    headers: tuple[Header, ...] = ()
    body: Body | None = None
    answers: dict[int, Answer]
    problems: tuple[Code, ...] = ()
    secured: bool = True


ETAG = {"ETag": "Names this very state.", "Last-Modified": "When it was last changed."}
POSITION = {
    "Nbledger-Position": "Where in the store the change is; send it along to read it in a list."
}
LOCATION = {"Location": "Where to read it."}

IF_NONE_MATCH = Header(
    name="If-None-Match",
    description="Entity tags at hand: when one still holds, the answer is 304 without a body.",
)
IF_MODIFIED_SINCE = Header(
    name="If-Modified-Since",
    description="Like If-None-Match, by time; counts only without it.",
)
IF_MATCH = Header(
    name="If-Match",
    description="The entity tag that was read: when it has changed since, nothing is "
    "done (412). What executions of a notebook recorded meanwhile does not count.",
)
IDEMPOTENCY_KEY = Header(
    name="Idempotency-Key",
    description="A key of the client's choice for this request, such as a UUID in quotes. A "
    "repetition with the same key is answered with what the first one has made and "
    "`Idempotency-Replayed: true`, and makes nothing.",
)
REPLAYED = {
    "Idempotency-Replayed": "true: the request is a repetition, and has made nothing itself."
}
IDEMPOTENCY_PROBLEMS = (Code.IDEMPOTENCY_KEY_REUSED, Code.IDEMPOTENCY_RESULT_GONE)
IF_MATCH_READ = Header(
    name="If-Match",
    description="Entity tags: where none of them holds any more, the answer is 412.",
)
IF_UNMODIFIED_SINCE = Header(
    name="If-Unmodified-Since",
    description="Like If-Match, by time, which goes by the second; counts only without it.",
)
IF_MATCH_EITHER = Header(
    name="If-Match",
    description="The entity tag of the notebook, or of the file, that was read: when it has "
    "changed since, nothing is done (412). *: only where a file is there.",
)
UNLESS_MATCH = Header(
    name="If-None-Match",
    description="*: nothing is done (412) where anything is there. Entity tags: nothing is done "
    "where what is there has one of them.",
)
PRECONDITIONS = (IF_MATCH, IF_UNMODIFIED_SINCE, UNLESS_MATCH)
"""Of a request that changes something."""

FILE_PRECONDITIONS = (IF_MATCH_EITHER, IF_UNMODIFIED_SINCE, UNLESS_MATCH)
"""Of a request that changes input files."""

READ_BY_TAG = (IF_MATCH_READ, IF_UNMODIFIED_SINCE, IF_NONE_MATCH)
"""Of a request for what may change at no recorded time."""

READ_CONDITIONS = (*READ_BY_TAG, IF_MODIFIED_SINCE)
"""Of a request that reads."""

READ_POSITION = Header(
    name="Nbledger-Position",
    description="The list is to hold all changes up to this position; see Prefer.",
    type="integer",
    minimum=0,
)
AS_OF_POSITION = {"Nbledger-Position": "With `asOf`: the position of the moment that is told of."}
AS_OF_PROBLEMS = (Code.CREATED_LATER, Code.DELETED_BEFORE, Code.ERASED)
"""Of a request that may ask for the past."""

PREFER = Header(
    name="Prefer",
    description="wait=N: wait up to N seconds (60 at most) for the position asked for.",
)
PREFER_NEWS = Header(
    name="Prefer",
    description="wait=N: wait up to N seconds (60 at most) for news, then answer.",
)
PREFERENCE_APPLIED = {"Preference-Applied": "wait=N: the seconds that were granted for a wait."}
NOT_MODIFIED = Answer(description="The state is still the one that the client has.", headers=ETAG)
