"""Examples of schedules, as OpenAPI shows them."""

from typing import Any

from nbledger_http.description.example_ids import EXECUTION_ID, NOTEBOOK_ID

_SCHEDULE_ID = "1d4c1ba0-5a0f-5f8e-9a53-0b4c6f7a2f10"
_FIRING_ID = "7be2f6d8-4a54-5c0b-8a51-54f0a4cf9b71"

SUMMARY: dict[str, Any] = {
    "cron": "0 2 * * *",
    "timeZone": "Europe/Berlin",
    "description": "At 02:00 every day (Europe/Berlin)",
    "nextFirings": [
        "2024-01-21T01:00:00.000Z",
        "2024-01-22T01:00:00.000Z",
        "2024-01-23T01:00:00.000Z",
        "2024-01-24T01:00:00.000Z",
        "2024-01-25T01:00:00.000Z",
    ],
    "state": "active",
}

_ITEM: dict[str, Any] = {**SUMMARY, "scheduleId": _SCHEDULE_ID, "notebookId": NOTEBOOK_ID}

SCHEDULE: dict[str, Any] = {
    **_ITEM,
    "setBy": "user123",
    "parameters": {"days": 7},
    "timeout": 600,
    "priority": "Low",
    "retryPolicy": {"maxAttempts": 2, "retryOn": ["worker_lost"]},
    "tags": ["nightly"],
    "overlap": "skip",
    "catchUpSeconds": 3600,
    "jitterSeconds": 0,
    "pauseAfterFailures": 3,
    "failing": {
        "failures": 1,
        "since": "2024-01-20T01:00:12.400Z",
        "firstExecutionId": EXECUTION_ID,
        "lastExecutionId": EXECUTION_ID,
        "terminationCode": "cell_error",
        "told": False,
    },
    "firings": [
        {
            "firingId": _FIRING_ID,
            "dueAt": "2024-01-20T01:00:00.000Z",
            "trigger": "due",
            "outcome": "started",
            "decidedAt": "2024-01-20T01:00:00.212Z",
            "executionId": EXECUTION_ID,
            "execution": {"status": "Error", "terminationCode": "cell_error"},
        },
        {
            "firingId": "0c7f7a7e-3a50-5f0e-8f0d-6a2f5d0c6b11",
            "dueAt": "2024-01-19T01:00:00.000Z",
            "trigger": "due",
            "outcome": "skipped",
            "decidedAt": "2024-01-19T01:00:00.190Z",
            "reason": "overlap",
        },
    ],
    "warnings": [],
}

PAUSED: dict[str, Any] = {
    **SCHEDULE,
    "state": "paused",
    "nextFirings": [],
    "pauseReason": "requested",
    "note": "until the source is mended",
}

SCHEDULE_LIST: dict[str, Any] = {
    "schedules": [_ITEM],
    "totalCount": 1,
    "page": 1,
    "pageSize": 20,
    "hasNextPage": False,
}

NOTE: dict[str, Any] = {"note": "until the source is mended"}

ASKED: dict[str, Any] = {
    "firingId": _FIRING_ID,
    "dueAt": "2024-01-20T10:30:00.000Z",
    "executionId": EXECUTION_ID,
}

BACKFILL: dict[str, Any] = {"from": "2024-01-15T00:00:00Z", "to": "2024-01-19T23:59:59Z"}

BACKFILLED: dict[str, Any] = {"firings": [ASKED]}
