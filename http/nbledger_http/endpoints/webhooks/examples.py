"""Examples of webhooks, as OpenAPI shows them."""

from typing import Any

from nbledger_http.description.example_ids import PROJECT_ID, WEBHOOK_ID

REQUEST: dict[str, Any] = {
    "url": "https://hooks.example.com/nbledger",
    "eventTypes": ["execution.completed", "execution.failed"],
    "tags": ["nightly"],
    "description": "Tells the team of nightly runs",
}

WEBHOOK: dict[str, Any] = {
    "webhookId": WEBHOOK_ID,
    "projectId": PROJECT_ID,
    **REQUEST,
    "ordered": False,
    "enabled": True,
    "createdAt": "2024-01-20T10:30:00.000Z",
    "createdBy": "user123",
}

# Of no webhook: it is what the example of the standard looks like.
NEW_WEBHOOK: dict[str, Any] = {**WEBHOOK, "secret": "whsec_…"}

ROTATED: dict[str, Any] = {
    **WEBHOOK,
    "previousSecretUntil": "2024-01-21T10:30:00.000Z",
    "secret": "whsec_…",
}

CHANGE: dict[str, Any] = {**REQUEST, "ordered": True, "enabled": True}

CHANGED: dict[str, Any] = {**WEBHOOK, "ordered": True}

WEBHOOK_LIST: dict[str, Any] = {
    "webhooks": [WEBHOOK],
    "totalCount": 1,
    "page": 1,
    "pageSize": 20,
    "hasNextPage": False,
}

_EVENT_ID = "0190f3c4-7d3e-7b2a-9c55-2a6d1f0e8b20"

_DELIVERY: dict[str, Any] = {
    "eventId": _EVENT_ID,
    "position": 4711,
    "type": "execution.completed.v1",
    "state": "pending",
    "attempts": 1,
    "createdAt": "2024-01-20T10:30:00.000Z",
    "nextAttemptAt": "2024-01-20T10:30:05.000Z",
    "endedAt": None,
}

DELIVERIES: dict[str, Any] = {"deliveries": [_DELIVERY], "next": None}

DELIVERY: dict[str, Any] = {
    **_DELIVERY,
    "requestBody": {
        "specversion": "1.0",
        "id": _EVENT_ID,
        "type": "nbledger.execution.completed.v1",
        "data": {},
    },
    "log": [
        {
            "number": 1,
            "at": "2024-01-20T10:30:00.000Z",
            "milliseconds": 41,
            "url": REQUEST["url"],
            "requestHeaders": {
                "webhook-id": _EVENT_ID,
                "webhook-timestamp": "1705746600",
                "webhook-signature": "v1,…",
            },
            "status": 503,
            "answerHeaders": [["content-type", "text/plain"]],
            "answerBody": "try later",
            "error": "refused",
            "detail": None,
        }
    ],
}

REDELIVERY: dict[str, Any] = {"after": 4000, "until": 4711}
