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
