"""How far the consumers of the events are, for who reads what is made of them."""

from typing import Any

import msgspec
from litestar import Request, get

from nbledger_application.caller import Right
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.endpoints.histories import examples
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.requests.services import services_of
from nbledger_projections.status import Status, status


@get(
    "/",
    right=Right.AUDIT,
    operation=Operation(
        id="getConsumers",
        tag="History",
        summary="Say how far the consumers of the events are",
        description="Projections, of which lists are made, and what else follows the events, such "
        "as the relay and the sealer: position, lag, pace, and what is being rebuilt. The same as "
        "`nbledger projections status`. These are of the whole installation; nothing in them is of "
        "any tenant.",
        answers={
            200: Answer(
                description="All consumers, projections first.",
                schema=Status,
                example=examples.CONSUMERS,
            )
        },
    ),
)
async def consumers(request: Request[Any, Any, Any]) -> Reply:
    """Positions and lags."""
    found = await status(services_of(request).pool)
    return json_reply(msgspec.json.encode(found), headers={"Cache-Control": "no-store"})


TENANT_HANDLERS: list[Any] = [consumers]
