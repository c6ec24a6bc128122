"""The schemas of the events, as subscribers get them."""

from typing import Any

import msgspec
from litestar import Litestar, Request, get

from nbledger_domain.vocabulary.addresses import EVENT_SCHEMAS, event_schema_path
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.description.subscribing.schema_files import (
    SCHEMA_JSON,
    schema_files,
    schema_reply,
)
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_schemas import published


class EventSchema(msgspec.Struct, frozen=True, kw_only=True):
    """An event and where its schema is. `title` is its type, which on Kafka follows `nbledger.`.

    `schema` is what `ce_dataschema` of its messages says.
    """

    title: str
    description: str
    schema: str


class EventSchemas(msgspec.Struct, frozen=True, kw_only=True):
    """All events that there are, and that there were."""

    events: list[EventSchema]


def event_schemas(base: str) -> EventSchemas:
    """The list, with addresses that begin with ``base``."""
    return EventSchemas(
        events=[
            EventSchema(
                title=name,
                description=schema["description"].partition("\n\n")[0],
                schema=base + event_schema_path(name),
            )
            for name, schema in published().items()
        ]
    )


_EXAMPLE = event_schemas("https://notebooks.example.com")


@get(
    EVENT_SCHEMAS,
    operation=Operation(
        id="getEventSchemas",
        tag="Description",
        summary="The events, each with the address of its JSON Schema",
        secured=False,
        answers={
            200: Answer(
                description="All events, in the order of their types.",
                schema=EventSchemas,
                example={"events": msgspec.to_builtins(_EXAMPLE.events[:2])},
            )
        },
    ),
)
async def get_event_schemas(request: Request[Any, Any, Any]) -> Reply:
    """The list."""
    return json_reply(request.app.state.event_schemas)


@get(
    f"{EVENT_SCHEMAS}/{{event_file:str}}",
    operation=Operation(
        id="getEventSchema",
        tag="Description",
        summary="The JSON Schema (2020-12) of an event's data, with examples",
        secured=False,
        answers={200: Answer(description="The schema.", media_types=(SCHEMA_JSON,))},
        problems=(Code.NOT_FOUND,),
    ),
)
async def get_event_schema(request: Request[Any, Any, Any]) -> Reply:
    """The schema whose file the path names. Raises :class:`Problem` for one that is not there."""
    files = request.app.state.event_schema_files
    return schema_reply(files, request.path_params["event_file"])


def install(app: Litestar, *, base: str) -> None:
    """Make the documents, for a service that is reached by ``base``."""
    app.state.event_schemas = msgspec.json.encode(event_schemas(base))
    app.state.event_schema_files = schema_files(published(), base)


HANDLERS: list[Any] = [get_event_schemas, get_event_schema]
