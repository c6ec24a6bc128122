"""What whoever opens the server's address finds: what it is, and where to go on."""

from typing import Any, Final

import msgspec
from litestar import Request, get

from nbledger_domain.vocabulary.addresses import EVENT_SCHEMAS, project_path
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.security.links import base_path


class EntryPoint(msgspec.Struct, rename="camel", kw_only=True):
    """The service and its version; `links` lead on, and need no token.

    `notebooks` is the address of a project's notebooks, for which a token is needed.
    """

    name: str
    version: str
    description: str
    links: dict[str, str]
    notebooks: str


# Relations of RFC 8631 and their addresses.
_RELATIONS: Final = {
    "service-doc": "/schema",
    "service-desc": "/schema/openapi.json",
    "status": "/health/ready",
}


def entry_point(version: str, base: str = "") -> EntryPoint:
    """That of this version of the service, whose paths are below ``base``."""
    return EntryPoint(
        name="nbledger",
        version=version,
        description="Stores Jupyter notebooks, runs them on kernel workers, and serves their list, "
        "status and results.",
        links={
            "documentation": f"{base}/schema",
            "openapi": f"{base}/schema/openapi.json",
            "asyncapi": f"{base}/schema/asyncapi.json",
            "eventSchemas": f"{base}{EVENT_SCHEMAS}",
            "ready": f"{base}/health/ready",
            "live": f"{base}/health/live",
        },
        notebooks=f"{base}{project_path('{tenantId}', '{projectId}', 'notebooks')}",
    )


@get(
    "/",
    operation=Operation(
        id="getEntryPoint",
        tag="Description",
        summary="What this server is, and where to go on",
        secured=False,
        answers={
            200: Answer(
                description="Links, also as the header Link.",
                schema=EntryPoint,
                example=msgspec.to_builtins(entry_point("0.1.0")),
                headers={"Link": "The relations service-doc, service-desc and status."},
            )
        },
    ),
)
async def get_entry_point(request: Request[Any, Any, Any]) -> Reply:
    """The links."""
    base = base_path(request)
    link = ", ".join(f'<{base}{to}>; rel="{name}"' for name, to in _RELATIONS.items())
    found = entry_point(request.app.state.version, base)
    return json_reply(msgspec.json.encode(found), headers={"Link": link})


HANDLERS: list[Any] = [get_entry_point]
