"""Who a request is from: its token, project and right are checked before every handler."""

import re
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast
from uuid import UUID

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from nbledger_application.caller import ROLES, Caller, Right
from nbledger_domain.vocabulary.addresses import ALL_PROJECTS
from nbledger_http.replies.problems import Code, Problem, not_allowed
from nbledger_http.security.authentication import Authenticator
from nbledger_infrastructure.postgres.tokens import Token

# W3C Trace Context: version, trace, parent and flags.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


class PathParameter(NamedTuple):
    """A variable of paths, by its name on the wire.

    Where it is an id, ``unknown`` is what is told of one that names nothing, or is no GUID.
    """

    name: str
    description: str
    unknown: Code | None = None


PATH_PARAMETERS = {
    "tenant_id": PathParameter("tenantId", "The tenant.", Code.PROJECT_NOT_FOUND),
    "project_id": PathParameter("projectId", "The project.", Code.PROJECT_NOT_FOUND),
    "notebook_id": PathParameter("notebookId", "The notebook.", Code.NOTEBOOK_NOT_FOUND),
    "execution_id": PathParameter("executionId", "The execution.", Code.EXECUTION_NOT_FOUND),
    "dataset_id": PathParameter("datasetId", "The dataset.", Code.DATASET_NOT_FOUND),
    "library_id": PathParameter("libraryId", "The library.", Code.LIBRARY_NOT_FOUND),
    "webhook_id": PathParameter("webhookId", "The webhook.", Code.WEBHOOK_NOT_FOUND),
    "replay_id": PathParameter("replayId", "The replay of events.", Code.REPLAY_NOT_FOUND),
    "event_id": PathParameter("eventId", "The event.", Code.EVENT_NOT_FOUND),
    "action_id": PathParameter("actionId", "The execution action.", Code.ACTION_NOT_FOUND),
    "path": PathParameter("path", "The path of the input file, below the notebook's folder."),
    "digest": PathParameter("digest", "The SHA-256 of the file."),
    "file_name": PathParameter("fileName", "The name of the file."),
    "event_file": PathParameter("eventFile", "The type of the event, and `.json`."),
    "tile_level": PathParameter("level", "The level of the tile, from 0."),
    "tile_index": PathParameter(
        "index", "The index in three digits a segment, such as x001/067, and .p/ with a width."
    ),
}
"""What paths have in them, the more general before the more specific."""


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Litestar's guard before every handler of the API: token, then project, then right.

    Raises :class:`Problem`: 401, 404 or 403, 400 for a PUT of a part, and 405 for a handler that
    names no right: Litestar adds one for OPTIONS, which would not name all methods of the address.
    """
    token = await _token(connection)
    parameters = connection.path_params
    project_id = guid(parameters["project_id"])
    known = guid(parameters["tenant_id"]) == token.tenant_id
    # No project has the id that stands for all of them.
    if not known or project_id in (None, ALL_PROJECTS) or not token.covers(project_id):
        raise Problem(_most_specific(parameters))
    right = _right(connection, handler)
    caller = _caller(connection, token, project_id)
    if not caller.may(right):
        raise _forbidden(right)
    if connection.scope.get("method") == "PUT" and "content-range" in connection.headers:
        # RFC 9110, section 14.5: to take a part for the whole would destroy the rest.
        raise Problem(Code.PARTIAL_PUT, "Content-Range: send the whole content without it.")
    cast("dict[str, Any]", connection.scope)["caller"] = caller


async def guard_log(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """Likewise before every handler of a tenant's log, which covers all projects of the tenant.

    Raises :class:`Problem`: 401, 404, 403 or 405.
    """
    await _guard_all_projects(connection, handler, Code.LOG_NOT_FOUND, "The log covers")


async def guard_tenant(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """Likewise before every handler of what else covers all projects of the tenant.

    Raises :class:`Problem`: 401, 404, 403 or 405.
    """
    await _guard_all_projects(connection, handler, Code.PROJECT_NOT_FOUND, "This covers")


async def _guard_all_projects(
    connection: ASGIConnection[Any, Any, Any, Any],
    handler: BaseRouteHandler,
    unknown: Code,
    covers: str,
) -> None:
    token = await _token(connection)
    if guid(connection.path_params["tenant_id"]) != token.tenant_id:
        raise Problem(unknown)
    right = _right(connection, handler)
    caller = _caller(connection, token, ALL_PROJECTS)
    if not caller.may(right):
        raise _forbidden(right)
    if token.project_ids is not None:
        raise Problem(
            Code.FORBIDDEN, f"{covers} all projects of the tenant, and this token some of them."
        )
    cast("dict[str, Any]", connection.scope)["caller"] = caller


def _caller(
    connection: ASGIConnection[Any, Any, Any, Any], token: Token, project_id: UUID
) -> Caller:
    return Caller(
        str(token.principal_id),
        frozenset(token.roles),
        token.tenant_id,
        project_id,
        cast("dict[str, Any]", connection.scope).get("request_id", ""),
        _traceparent(connection.headers.get("traceparent", "")),
        token.token_id,
    )


async def _token(connection: ASGIConnection[Any, Any, Any, Any]) -> Token:
    authenticator: Authenticator = connection.app.state.services.authenticator
    return await authenticator.authenticate(connection.headers.get("authorization"))


def _right(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> Right:
    right: Right | None = handler.opt.get("right")
    if right is None:
        raise _not_allowed(connection)
    return right


def _forbidden(right: Right) -> Problem:
    allowed = " or ".join(sorted(ROLES[right]))
    return Problem(Code.FORBIDDEN, f"This requires the role {allowed}.")


def _traceparent(header: str) -> str | None:
    """The header, where it is one: it is kept with events for ever, so it can be no other text."""
    return header if _TRACEPARENT.match(header) else None


async def known_methods(
    connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler
) -> None:
    """Guard of what takes no token: 405 for the OPTIONS that Litestar adds, as for any other."""
    if connection.scope.get("method") == "OPTIONS":
        raise _not_allowed(connection)


def _not_allowed(connection: ASGIConnection[Any, Any, Any, Any]) -> Problem:
    template = connection.scope["path_template"]
    routes = [route for route in connection.app.routes if route.path_format == template]
    known = (str(name) for route in routes for name in route.methods)
    return not_allowed(known)


def require(request: Request[Any, Any, Any], right: Right) -> None:
    """Raise :class:`Problem` (403) where the caller lacks a right that not every request takes."""
    if not access_of(request).may(right):
        raise _forbidden(right)


def access_of(request: Request[Any, Any, Any]) -> Caller:
    """The caller that :func:`guard` has let in."""
    return cast("Caller", cast("dict[str, Any]", request.scope)["caller"])


def id_of(request: Request[Any, Any, Any], name: str) -> UUID:
    """The id that the path has under ``name``, one of ``PATH_PARAMETERS``.

    Raises :class:`Problem` (404) for what is no GUID, in words for the whole of what is named.
    """
    found = guid(request.path_params[name])
    if found is None:
        raise Problem(_most_specific(request.path_params))
    return found


def execution_id_in(text: str) -> UUID:
    """The execution that a query names. Raises :class:`Problem` (404) for what is no GUID."""
    # Not by way of the path's parameters: those of a path are shared by all requests for it.
    found = guid(text)
    if found is None:
        raise Problem(Code.EXECUTION_NOT_FOUND)
    return found


notebook_id_of = partial(id_of, name="notebook_id")
execution_id_of = partial(id_of, name="execution_id")
tenant_id_of = partial(id_of, name="tenant_id")
dataset_id_of = partial(id_of, name="dataset_id")
library_id_of = partial(id_of, name="library_id")
action_id_of = partial(id_of, name="action_id")
webhook_id_of = partial(id_of, name="webhook_id")


def _most_specific(parameters: dict[str, Any]) -> Code:
    """The code for "unknown" that a caller of this path would get."""
    codes = [each.unknown for key, each in PATH_PARAMETERS.items() if key in parameters]
    return [code for code in codes if code is not None][-1]


@lru_cache(maxsize=4096)
def guid(text: str) -> UUID | None:
    """The id that ``text`` is in the one form that addresses have."""
    # UUID() also takes braces, "urn:uuid:" and misplaced hyphens; an address has one form.
    if len(text) != 36:
        return None
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None
