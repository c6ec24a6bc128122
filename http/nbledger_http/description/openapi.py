"""The OpenAPI document, put together from what the handlers say of themselves."""

from collections.abc import Iterable
from typing import Any, get_args, get_origin

import msgspec
from litestar import Litestar, Request, get
from litestar.handlers import HTTPRouteHandler

from nbledger_application.caller import ROLES, Right
from nbledger_http.description.documentation import JSON, Answer, Body, Header, Operation
from nbledger_http.description.links import add_links
from nbledger_http.description.page import page
from nbledger_http.replies.negotiation import preferred
from nbledger_http.replies.problems import KINDS, MEDIA_TYPE, Code
from nbledger_http.replies.rendering import ProblemBody
from nbledger_http.replies.responses import Reply, header_list
from nbledger_http.security.access import PATH_PARAMETERS
from nbledger_http.security.links import base_path
from nbledger_projections.machinery.quantities import Quantity

OPENAPI_VERSION = "3.1.0"
REF = "#/components/schemas/{name}"

EVERYWHERE = (Code.INTERNAL_ERROR,)
SECURED = (
    Code.UNAUTHENTICATED,
    Code.FORBIDDEN,
    Code.RATE_LIMITED,
    Code.UNAVAILABLE,
    Code.VALIDATION_FAILED,
)

DESCRIPTION = """\
Stores Jupyter notebooks, runs them on kernel workers, and serves their list, status and results.

Every change is an event; what single resources answer is never behind the last one.
Errors are problems (RFC 9457) whose `code` is one of a closed list.
Every answer carries `X-Request-Id`; send your own in a request to find it again in the logs.
Members that tell who acted (`createdBy`, `requestedBy`, `setBy`, `uploadedBy`, `actor`) show a
name, or the id of the principal once its name is erased.
Wherever there is GET there is HEAD.
"""


def document(app: Litestar, *, version: str) -> dict[str, Any]:
    """The OpenAPI document of ``app``."""
    operations = list(_operations(app))
    schemas, components = _schemas(operation for _, _, operation, _ in operations)
    paths: dict[str, Any] = {}
    for path, method, operation, right in operations:
        paths.setdefault(_template(path), {})[method.lower()] = _operation(
            path, method, operation, right, schemas
        )
    opens = {
        (operation.id, status): answer.opens
        for _, _, operation, _ in operations
        for status, answer in operation.answers.items()
        if answer.opens
    }
    add_links(paths, opens)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "nbledger",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token, as `nbledger token create` prints it.",
                }
            },
        },
    }


def _operations(app: Litestar) -> Iterable[tuple[str, str, Operation, Right | None]]:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", []):
            operation = handler.opt.get("operation")
            if isinstance(handler, HTTPRouteHandler) and isinstance(operation, Operation):
                for method in handler.http_methods:
                    yield route.path_format, str(method), operation, handler.opt.get("right")


def _schemas(operations: Iterable[Operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The JSON Schema of every type that operations name, and what those refer to."""
    types: list[Any] = [ProblemBody]
    texts: list[Any] = []  # of queries and forms, which are described where they are used
    for operation in operations:
        named = [answer.schema for answer in operation.answers.values()]
        texts.append(operation.query)
        if operation.body is not None:
            (named if operation.body.file is None else texts).append(operation.body.schema)
        types.extend(t for t in named if t is not None and not isinstance(t, dict))
    texts = [kind for kind in texts if kind is not None]
    unique = list(dict.fromkeys([*types, *texts]))
    found, components = msgspec.json.schema_components(
        unique, ref_template=REF, schema_hook=_schema_hook
    )
    for kind in unique:
        _make_optional(kind, components)
    schemas = dict(zip(unique, found, strict=True))
    schemas.update({kind: components.pop(kind.__name__) for kind in dict.fromkeys(texts)})
    return schemas, dict(sorted(components.items()))


def _make_optional(kind: Any, components: dict[str, Any]) -> None:
    """Members that may be unset have no default to tell msgspec that they may be absent."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        required = components[kind.__name__].get("required", [])
        for field in msgspec.structs.fields(kind):
            if msgspec.UnsetType in get_args(field.type) and field.encode_name in required:
                required.remove(field.encode_name)


def _schema_hook(kind: Any) -> dict[str, Any]:
    if kind is msgspec.Raw or get_origin(kind) is msgspec.Raw:
        return {}
    if isinstance(kind, type) and issubclass(kind, Quantity):
        return {"type": "string"}
    raise NotImplementedError(kind)


def _operation(
    path: str, method: str, operation: Operation, right: Right | None, schemas: dict[Any, Any]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    notes = [operation.description] if operation.description else []
    if right is not None:
        notes.append(f"Roles: {', '.join(sorted(ROLES[right]))}.")
    if notes:
        described["description"] = "\n\n".join(notes)
    parameters = [
        *_path_parameters(path),
        *_query_parameters({} if operation.query is None else schemas[operation.query]),
        *map(_header, operation.headers),
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        body = operation.body
        content: dict[str, Any] = {"schema": _body(body, schemas)}
        if body.example is not None:
            content["example"] = body.example
        described["requestBody"] = {
            "required": body.required,
            "content": {body.media_type: content},
        }
    responses = {
        str(status): _answer(answer, schemas) for status, answer in operation.answers.items()
    }
    for status, codes in _by_status(method, operation, right).items():
        responses.setdefault(status, _problem(int(status), codes, schemas))
    described["responses"] = dict(sorted(responses.items()))
    described["security"] = [{"bearer": []}] if operation.secured else []
    return described


def _by_status(method: str, operation: Operation, right: Right | None) -> dict[str, list[Code]]:
    codes = [*operation.problems, *EVERYWHERE, *(SECURED if operation.secured else ())]
    if method == "PUT":
        codes.append(Code.PARTIAL_PUT)
    if right is Right.WRITE:
        codes.append(Code.OUTCOME_UNKNOWN)
    found: dict[str, list[Code]] = {}
    for code in dict.fromkeys(codes):
        found.setdefault(str(KINDS[code].status), []).append(code)
    return found


def _headers(told: dict[str, str]) -> dict[str, Any]:
    return {
        name: {"description": text, "schema": {"type": "string"}} for name, text in told.items()
    }


def _answer(answer: Answer, schemas: dict[Any, Any]) -> dict[str, Any]:
    headers = {**answer.headers, "X-Request-Id": "Names the request in the logs."}
    described: dict[str, Any] = {
        "description": answer.description,
        "headers": _headers(headers),
    }
    content: dict[str, Any] = {}
    for media_type in answer.media_types:
        if media_type != JSON:
            content[media_type] = {}
            if answer.example is not None and media_type == answer.media_types[0]:
                content[media_type] = {"schema": {"type": "string"}, "example": answer.example}
        elif answer.schema is not None:
            content[media_type] = {"schema": schemas[answer.schema]}
            if answer.example is not None:
                content[media_type]["example"] = answer.example
    if content:
        described["content"] = content
    return described


def _problem(status: int, codes: list[Code], schemas: dict[Any, Any]) -> dict[str, Any]:
    kind = KINDS[codes[0]]
    headers = {"X-Request-Id": "Names the request in the logs."}
    if status == 401:
        headers["WWW-Authenticate"] = "How to authenticate."
    if status in (429, 503):
        headers["Retry-After"] = "Seconds to wait."
    return {
        "description": " ".join(KINDS[code].title for code in codes),
        "headers": _headers(headers),
        "content": {
            MEDIA_TYPE: {
                "schema": schemas[ProblemBody],
                "example": {
                    "type": f"/problems/{codes[0]}",
                    "title": kind.title,
                    "status": status,
                    "detail": kind.title,
                    "code": codes[0],
                    "requestId": "01HZX3",
                    "error": kind.title,
                },
            }
        },
    }


def _body(body: Body, schemas: dict[Any, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = body.schema if isinstance(body.schema, dict) else schemas[body.schema]
    if body.file is None:
        return schema
    file = {
        "type": "string",
        "contentMediaType": body.file.media_type,
        "description": body.file.description,
    }
    fields = {name: _not_null(each) for name, each in schema["properties"].items()}
    return {"type": "object", "properties": {"file": file, **fields}, "required": ["file"]}


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what a form or a query may leave out; neither can write a null."""
    options = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    found = {**schema, **options[0]} if len(options) == 1 else {**schema}
    if options:
        del found["anyOf"]
    if "enum" in found:
        found["type"] = "string"
    return {key: value for key, value in found.items() if value is not None}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": parameter.name,
            "in": "path",
            "required": True,
            "description": parameter.description,
            "schema": {"type": "string"} | ({"format": "uuid"} if parameter.unknown else {}),
        }
        for key, parameter in PATH_PARAMETERS.items()
        if f"{{{key}}}" in path
    ]


def _query_parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    found = {name: _not_null(each) for name, each in schema.get("properties", {}).items()}
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema["required"],
            "description": each.pop("description"),
            "schema": each,
        }
        for name, each in found.items()
    ]


def _header(header: Header) -> dict[str, Any]:
    least = {} if header.minimum is None else {"minimum": header.minimum}
    return {
        "name": header.name,
        "in": "header",
        "required": False,
        "description": header.description,
        "schema": {"type": header.type, **least},
    }


def _template(path: str) -> str:
    for key, parameter in PATH_PARAMETERS.items():
        path = path.replace(f"{{{key}}}", f"{{{parameter.name}}}")
    return path


@get(
    "/schema",
    operation=Operation(
        id="getSchemaPage",
        tag="Description",
        summary="This description, as a page to read",
        secured=False,
        description="Browsers, which accept text/html, get a page; everybody else the document.",
        answers={
            200: Answer(
                description="The page, or the document.",
                schema=dict[str, Any],
                media_types=("text/html", JSON),
                headers={"Vary": "Accept"},
            )
        },
    ),
)
async def schema_page(request: Request[Any, Any, Any]) -> Reply:
    """The page for browsers, the document for everybody else."""
    state = request.app.state
    return page_or_document(request, page=state.openapi_page, document=_here(request))


@get(
    "/schema/openapi.json",
    operation=Operation(
        id="getSchema",
        tag="Description",
        summary="This description, as an OpenAPI document",
        secured=False,
        answers={200: Answer(description="The document.", schema=dict[str, Any])},
    ),
)
async def schema_json(request: Request[Any, Any, Any]) -> Reply:
    """The document."""
    return document_reply(_here(request), JSON, {})


def _here(request: Request[Any, Any, Any]) -> bytes:
    """The document, for the address that the client used."""
    document: bytes = request.app.state.openapi_json
    if base := base_path(request):
        servers = msgspec.json.encode({"servers": [{"url": base}]})
        return servers[:-1] + b"," + document[1:]
    return document


def page_or_document(request: Request[Any, Any, Any], *, page: bytes, document: bytes) -> Reply:
    """The page for who accepts HTML, as browsers do; the JSON document for everybody else."""
    vary = {"Vary": "Accept"}
    if preferred(request, (JSON, "text/html")) == "text/html":
        return document_reply(page, "text/html; charset=utf-8", vary)
    return document_reply(document, JSON, vary)


def document_reply(content: bytes, media_type: str, more: dict[str, str]) -> Reply:
    """A page or document that needs no other file."""
    headers = {
        "Content-Type": media_type,
        "Content-Length": str(len(content)),
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        "X-Content-Type-Options": "nosniff",
        **more,
    }
    return Reply(200, header_list(headers), content)


def install(app: Litestar, *, version: str) -> None:
    """Make the document, once all handlers are registered."""
    described = document(app, version=version)
    app.state.openapi_json = msgspec.json.encode(described)
    app.state.openapi_page = page(described).encode()
    app.state.version = version


HANDLERS: list[Any] = [schema_page, schema_json]
