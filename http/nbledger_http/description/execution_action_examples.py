"""Examples of what is done to many executions, as OpenAPI shows them."""

from typing import Any

from nbledger_http.description.example_ids import ACTION_ID, EXECUTION_ID
from nbledger_http.description.execution_examples import EXECUTION_LIST

EXECUTIONS: dict[str, Any] = {
    "executions": EXECUTION_LIST["executions"],
    "next": "1705746600000000-4711",
}

REQUEST: dict[str, Any] = {
    "action": "cancel",
    "filter": "phase = Queued AND tag:nightly",
    "expectedCount": 1200,
}

COUNTED: dict[str, Any] = {"action": "cancel", "count": 1200}

_ITEM: dict[str, Any] = {
    "actionId": ACTION_ID,
    "action": "cancel",
    "status": "Running",
    "filter": "phase = Queued AND tag:nightly",
    "total": 1200,
    "done": 511,
    "skipped": 1,
    "failed": 0,
    "requestedAt": "2024-01-20T10:30:00.000Z",
    "requestedBy": "user123",
    "cancelRequested": False,
}

ACTION: dict[str, Any] = {
    **_ITEM,
    "passedOver": [
        {"executionId": EXECUTION_ID, "outcome": "skipped", "reason": "no_longer_matches"}
    ],
}

NEW_ACTION: dict[str, Any] = {**_ITEM, "done": 0, "skipped": 0, "passedOver": []}

CANCELLED_ACTION: dict[str, Any] = {**ACTION, "cancelRequested": True}

ACTION_LIST: dict[str, Any] = {
    "actions": [_ITEM],
    "totalCount": 1,
    "page": 1,
    "pageSize": 20,
    "hasNextPage": False,
}
