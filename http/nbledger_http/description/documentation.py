"""How a handler describes itself; the OpenAPI document is put together from this."""

from typing import Any, Literal

import msgspec

from nbledger_http.replies.problems import Code

JSON = "application/json"


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A query parameter or a header of a request; ``schema`` is a JSON Schema."""

    name: str
    description: str
    schema: dict[str, Any]
    place: Literal["query", "header"] = "query"
    required: bool = False


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What a request carries: a type, or a JSON Schema where the body is a form."""

    schema: Any
    media_type: str = JSON
    required: bool = True
    example: Any = None
    description: str = ""


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
    """One method of one path. ``problems`` are those beyond what every operation may answer."""

    id: str
    tag: str
    summary: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    answers: dict[int, Answer]
    problems: tuple[Code, ...] = ()
    secured: bool = True


ETAG = {"ETag": "Names this very state.", "Last-Modified": "When it was last changed."}
POSITION = {
    "Nbledger-Position": "Where in the store the change is; send it along to read it in a list."
}
LOCATION = {"Location": "Where to read it."}

IF_NONE_MATCH = Parameter(
    name="If-None-Match",
    place="header",
    description="Entity tags at hand: when one still holds, the answer is 304 without a body.",
    schema={"type": "string"},
)
IF_MODIFIED_SINCE = Parameter(
    name="If-Modified-Since",
    place="header",
    description="Like If-None-Match, by time; counts only without it.",
    schema={"type": "string"},
)
IF_MATCH = Parameter(
    name="If-Match",
    place="header",
    description="The entity tag that was read: when it has changed since, nothing is "
    "done (412). What executions of a notebook recorded meanwhile does not count.",
    schema={"type": "string"},
)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    description="A key of the client's choice for this request, such as a UUID in quotes. A "
    "repetition with the same key is answered with what the first one has made and "
    "`Idempotency-Replayed: true`, and makes nothing.",
    schema={"type": "string", "minLength": 1, "maxLength": 512},
)
REPLAYED = {
    "Idempotency-Replayed": "true: the request is a repetition, and has made nothing itself."
}
IDEMPOTENCY_PROBLEMS = (Code.IDEMPOTENCY_KEY_REUSED, Code.IDEMPOTENCY_RESULT_GONE)
PAGE = Parameter(
    name="page",
    description="Page number, from 1.",
    schema={"type": "integer", "minimum": 1, "maximum": 1_000_000_000, "default": 1},
)
PAGE_SIZE = Parameter(
    name="pageSize",
    description="Items per page.",
    schema={"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
)
READ_POSITION = Parameter(
    name="Nbledger-Position",
    place="header",
    description="The list is to hold all changes up to this position; see Prefer.",
    schema={"type": "integer", "minimum": 0},
)
PREFER = Parameter(
    name="Prefer",
    place="header",
    description="wait=N: wait up to N seconds (60 at most) for the position asked for.",
    schema={"type": "string"},
)
PREFER_NEWS = Parameter(
    name="Prefer",
    place="header",
    description="wait=N: wait up to N seconds (60 at most) for news, then answer.",
    schema={"type": "string"},
)
PREFERENCE_APPLIED = {"Preference-Applied": "wait=N: the seconds that were granted for a wait."}
NOT_MODIFIED = Answer(description="The state is still the one that the client has.", headers=ETAG)
