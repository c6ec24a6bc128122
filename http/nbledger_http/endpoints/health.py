"""Health: whether the process lives, and whether it can work."""

import asyncio
from typing import Any

import msgspec
import structlog
from litestar import Request, get

from nbledger_http.description import examples
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.description.schemas import Health
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.requests.services import Services, services_of
from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError, acquire

log = structlog.get_logger(__name__)

TAG = "Health"
PING_SECONDS = 2.0
OK = msgspec.json.encode(Health(status="ok"))


@get(
    "/health/live",
    operation=Operation(
        id="live",
        tag=TAG,
        summary="Whether the process lives",
        secured=False,
        answers={200: Answer(description="It does.", schema=Health, example=examples.HEALTHY)},
    ),
)
async def live(request: Request[Any, Any, Any]) -> Reply:  # noqa: ARG001 (a handler's signature)
    """Yes."""
    return json_reply(OK)


@get(
    "/health/ready",
    operation=Operation(
        id="ready",
        tag=TAG,
        summary="Whether the service can work",
        secured=False,
        answers={
            200: Answer(description="It can.", schema=Health, example=examples.HEALTHY),
            503: Answer(
                description="It cannot; what is missing.",
                schema=Health,
                example=examples.UNHEALTHY,
            ),
        },
    ),
)
async def ready(request: Request[Any, Any, Any]) -> Reply:
    """Yes, or what is missing."""
    services = services_of(request)
    missing = ["shutting down"] if services.draining else await _missing(services)
    if not missing:
        return json_reply(OK)
    body = msgspec.json.encode(Health(status="unavailable", missing=missing))
    return json_reply(body, status=503, headers={"Retry-After": "2"})


async def _missing(services: Services) -> list[str]:
    database, store = await asyncio.gather(
        _missing_database(services), services.artifact_health.problem()
    )
    if store is not None:
        database.append(f"artifact store: {store}")
    return database


async def _missing_database(services: Services) -> list[str]:
    try:
        async with asyncio.timeout(PING_SECONDS), acquire(services.pool) as connection:
            read_only = await connection.fetchval(
                "SELECT current_setting('transaction_read_only')::boolean"
            )
    except (DatabaseUnavailableError, *UNAVAILABLE) as error:
        log.warning("not ready", missing="database", reason=type(error).__name__)
        return ["database"]
    return ["a database that can be written to"] if read_only else []


HANDLERS: list[Any] = [live, ready]
