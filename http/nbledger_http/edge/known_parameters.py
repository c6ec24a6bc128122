"""Query parameters that an address does not take: none of them passes unseen.

One that is passed over may be what mattered: `?dryRun=true` sent to what takes it in the body.
"""

from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.words import nearest_member
from nbledger_http.description.documentation import Operation
from nbledger_http.requests.json_bodies import MAX_TOLD

_MAX_SHOWN = 100


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Litestar's guard before every handler that has an operation.

    Raises :class:`InvalidInputError` with every parameter that is unknown, or there twice.
    """
    query = connection.scope["query_string"]
    operation = handler.opt.get("operation")
    if not query or not isinstance(operation, Operation):
        return
    raw = query.decode("latin-1")
    given = parse_qsl(raw, keep_blank_values=True, encoding="utf-8", errors="replace")
    body = None if operation.body is None else operation.body.schema
    if faults := _faults([name for name, _ in given], _names(operation.query), _names(body)):
        raise InvalidInputError(faults)


def _names(kind: Any) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [field.encode_name for field in msgspec.structs.fields(kind)]
    return []


def _faults(given: Sequence[str], known: Sequence[str], body: Collection[str]) -> list[Fault]:
    faults: list[Fault] = []
    seen: dict[str, int] = {}
    for name in given:
        seen[name] = seen.get(name, 0) + 1
    for name, times in seen.items():
        if len(faults) == MAX_TOLD:
            break
        if name not in known:
            faults.append(Fault(f"?{name[:_MAX_SHOWN]}", _unknown(name, known, body)))
        elif times > 1:
            faults.append(Fault(f"?{name}", f"is there {times} times; send it once"))
    return faults


def _unknown(name: str, known: Sequence[str], body: Collection[str]) -> str:
    if name in body:
        return "is no parameter of the address; it belongs into the body"
    meant = nearest_member(name, known)
    if meant is not None:
        return f"is an unknown parameter; did you mean {meant}?"
    there = f"there are {', '.join(known)}" if known else "the address takes none"
    return f"is an unknown parameter; {there}"
