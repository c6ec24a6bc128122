"""What a caller may do, and where: tenant, project and roles."""

from enum import StrEnum
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from nbledger_http.problems import Code, Problem, not_allowed
from nbledger_infrastructure.artifacts import Scope
from nbledger_infrastructure.event_store import Metadata, Stream
from nbledger_infrastructure.tokens import Role, Token


class Right(StrEnum):
    """What a handler takes."""

    READ = "read"
    WRITE = "write"
    AUDIT = "audit"


ROLES: dict[Right, frozenset[Role]] = {
    Right.READ: frozenset(Role),
    Right.WRITE: frozenset({Role.EDITOR, Role.ADMIN}),
    Right.AUDIT: frozenset({Role.AUDITOR, Role.ADMIN}),
}


class Access(msgspec.Struct, frozen=True):
    """One request's caller, and the project that it is about."""

    token: Token
    tenant_id: UUID
    project_id: UUID
    request_id: str
    traceparent: str | None

    def metadata(self) -> Metadata:
        """What events caused by the request are recorded with."""
        return Metadata(
            actor=self.token.name,
            correlation_id=self.request_id,
            traceparent=self.traceparent,
            request_id=self.request_id,
        )

    def scope(self, notebook_id: UUID) -> Scope:
        """Where the artifacts of the notebook are."""
        return Scope(self.tenant_id, self.project_id, notebook_id)

    def stream(self, stream_id: UUID, notebook_id: UUID) -> Stream:
        """A stream of this project that concerns the notebook."""
        return Stream(stream_id, notebook_id, self.tenant_id, self.project_id)

    def owns(self, stream: Stream) -> bool:
        """Whether ``stream`` lies in this project."""
        return stream.tenant_id == self.tenant_id and stream.project_id == self.project_id


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Litestar's guard before every handler of the API: token, then project, then right.

    Raises :class:`Problem`: 401, 404 or 403, 400 for a PUT of a part, and 405 for a handler that
    names no right: Litestar adds one for OPTIONS, which would not name all methods of the address.
    """
    token = await connection.app.state.services.authenticator.authenticate(
        connection.headers.get("authorization")
    )
    parameters = connection.path_params
    tenant_id, project_id = guid(parameters["tenant_id"]), guid(parameters["project_id"])
    if tenant_id != token.tenant_id or project_id is None or not token.covers(project_id):
        raise Problem(_most_specific(parameters))
    right: Right | None = handler.opt.get("right")
    if right is None:
        raise _not_allowed(connection)
    if ROLES[right].isdisjoint(token.roles):
        allowed = " or ".join(sorted(ROLES[right]))
        raise Problem(Code.FORBIDDEN, f"This takes the role {allowed}.")
    if connection.scope.get("method") == "PUT" and "content-range" in connection.headers:
        # RFC 9110, section 14.5: to take a part for the whole would destroy the rest.
        raise Problem(Code.PARTIAL_PUT, "Content-Range: send the whole content without it.")
    scope = cast("dict[str, Any]", connection.scope)
    scope["access"] = Access(
        token,
        token.tenant_id,
        project_id,
        scope.get("request_id", ""),
        connection.headers.get("traceparent"),
    )


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


def access_of(request: Request[Any, Any, Any]) -> Access:
    """The access that :func:`guard` has granted."""
    return cast("Access", cast("dict[str, Any]", request.scope)["access"])


def notebook_id_of(request: Request[Any, Any, Any]) -> UUID:
    """The notebook that the path names. Raises :class:`Problem` (404) for what is no GUID."""
    notebook_id = guid(request.path_params["notebook_id"])
    if notebook_id is None:
        raise Problem(_most_specific(request.path_params))
    return notebook_id


def execution_id_of(request: Request[Any, Any, Any]) -> UUID:
    """The execution that the path names. Raises :class:`Problem` (404) for what is no GUID."""
    return _id_of(request, "execution_id", Code.EXECUTION_NOT_FOUND)


def execution_id_in(text: str) -> UUID:
    """The execution that a query names. Raises :class:`Problem` (404) for what is no GUID."""
    # Not by way of the path's parameters: those of a path are shared by all requests for it.
    found = guid(text)
    if found is None:
        raise Problem(Code.EXECUTION_NOT_FOUND)
    return found


def dataset_id_of(request: Request[Any, Any, Any]) -> UUID:
    """The dataset that the path names. Raises :class:`Problem` (404) for what is no GUID."""
    return _id_of(request, "dataset_id", Code.DATASET_NOT_FOUND)


def library_id_of(request: Request[Any, Any, Any]) -> UUID:
    """The library that the path names. Raises :class:`Problem` (404) for what is no GUID."""
    return _id_of(request, "library_id", Code.LIBRARY_NOT_FOUND)


def _id_of(request: Request[Any, Any, Any], name: str, unknown: Code) -> UUID:
    found = guid(request.path_params[name])
    if found is None:
        raise Problem(unknown)
    return found


def _most_specific(parameters: dict[str, Any]) -> Code:
    """The code for "unknown" that a caller of this path would get."""
    if "execution_id" in parameters:
        return Code.EXECUTION_NOT_FOUND
    if "dataset_id" in parameters:
        return Code.DATASET_NOT_FOUND
    if "library_id" in parameters:
        return Code.LIBRARY_NOT_FOUND
    return Code.NOTEBOOK_NOT_FOUND if "notebook_id" in parameters else Code.PROJECT_NOT_FOUND


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
