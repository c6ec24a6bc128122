"""The schemas of what state topics hold, as subscribers get them."""

from typing import Any

import msgspec
from litestar import Litestar, Request, get

from nbledger_domain.vocabulary.addresses import STATE_SCHEMAS, state_schema_path
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.description.subscribing.schema_files import (
    SCHEMA_JSON,
    schema_files,
    schema_reply,
)
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_schemas import states


class StateSchema(msgspec.Struct, frozen=True, kw_only=True):
    """A state and where its schema is. `title` is its type, which on Kafka follows `nbledger.`.

    `schema` is what `ce_dataschema` of its records says.
    """

    title: str
    description: str
    schema: str


class StateSchemas(msgspec.Struct, frozen=True, kw_only=True):
    """All states that are published."""

    states: list[StateSchema]


def state_schemas(base: str) -> StateSchemas:
    """The list, with addresses that begin with ``base``."""
    return StateSchemas(
        states=[
            StateSchema(
                title=name,
                description=schema["description"].partition("\n\n")[0],
                schema=base + state_schema_path(name),
            )
            for name, schema in states().items()
        ]
    )


_EXAMPLE = state_schemas("https://notebooks.example.com")


@get(
    STATE_SCHEMAS,
    operation=Operation(
        id="getStateSchemas",
        tag="Description",
        summary="What state topics hold, each with the address of its JSON Schema",
        secured=False,
        answers={
            200: Answer(
                description="All states, in the order of their types.",
                schema=StateSchemas,
                example={"states": msgspec.to_builtins(_EXAMPLE.states)},
            )
        },
    ),
)
async def get_state_schemas(request: Request[Any, Any, Any]) -> Reply:
    """The list."""
    return json_reply(request.app.state.state_schemas)


@get(
    f"{STATE_SCHEMAS}/{{state_file:str}}",
    operation=Operation(
        id="getStateSchema",
        tag="Description",
        summary="The JSON Schema (2020-12) of a state, with examples",
        secured=False,
        answers={200: Answer(description="The schema.", media_types=(SCHEMA_JSON,))},
        problems=(Code.NOT_FOUND,),
    ),
)
async def get_state_schema(request: Request[Any, Any, Any]) -> Reply:
    """The schema whose file the path names. Raises :class:`Problem` for one that is not there."""
    files = request.app.state.state_schema_files
    return schema_reply(files, request.path_params["state_file"])


def install(app: Litestar, *, base: str) -> None:
    """Make the documents, for a service that is reached by ``base``."""
    app.state.state_schemas = msgspec.json.encode(state_schemas(base))
    app.state.state_schema_files = schema_files(states(), base)


HANDLERS: list[Any] = [get_state_schemas, get_state_schema]
