"""Examples of histories, as OpenAPI shows them."""

from typing import Any

from nbledger_http.description.example_ids import NOTEBOOK_ID, PROJECT_ID

_PRINCIPAL = "7d9c6d2c-3c51-4c42-9be5-6b1f0a8d2f8e"

_RENAMED: dict[str, Any] = {
    "position": 4711,
    "type": "notebook.renamed.v1",
    "version": 2,
    "streamId": NOTEBOOK_ID,
    "eventId": "0190163d-8694-739b-aea5-966c26f8ad90",
    "subjectId": NOTEBOOK_ID,
    "projectId": PROJECT_ID,
    "actor": "user123",
    "actorId": _PRINCIPAL,
    "onBehalfOf": None,
    "time": "2024-01-20T10:30:00.000Z",
    "recordedAt": "2024-01-20T10:30:00.002Z",
    "requestId": "01HZX3",
    "correlationId": "01HZX3",
    "causationId": None,
    "cause": {"kind": "request", "ids": {"requestId": "01HZX3"}},
    "data": {"name": "Advanced Customer Analytics v2"},
    "erased": False,
    "erasure": None,
    "digest": "5f" * 32,
    "chain": "a0" * 32,
    "formula": 2,
    "salt": "1c" * 16,
}

HISTORY: dict[str, Any] = {
    "events": [
        {
            **_RENAMED,
            "changes": [
                {
                    "field": "/name",
                    "kind": "changed",
                    "before": "Advanced Customer Analytics",
                    "after": "Advanced Customer Analytics v2",
                }
            ],
        }
    ],
    "next": None,
}

EVENT_PAGE: dict[str, Any] = {"events": [_RENAMED], "position": 4711, "next": None}

READS: dict[str, Any] = {
    "reads": [
        {
            "position": 4720,
            "time": "2024-01-21T08:15:30.000Z",
            "actor": "auditor7",
            "actorId": "2b1de0a4-93c5-4c0e-8f43-6b3a6d6f4f11",
            "requestId": "01HZX4",
            "projectId": PROJECT_ID,
            "history": "notebook",
            "subjectId": NOTEBOOK_ID,
            "manner": "page",
            "hour": "2024-01-21T08:00:00Z",
            "after": None,
            "until": None,
        }
    ],
    "next": None,
}

CONSUMERS: dict[str, Any] = {
    "position": 4720,
    "consumers": [
        {
            "name": "execution_status",
            "kind": "projection",
            "state": "rebuilding",
            "position": 4719,
            "lagEvents": 1,
            "lagSeconds": 0.1,
            "perSecond": 12.5,
            "updatedAt": "2024-01-21T08:15:30.250Z",
            "rebuild": {
                "phase": "folding",
                "position": 1180,
                "target": 4720,
                "percent": 25,
                "perSecond": 590.0,
                "secondsLeft": 6.0,
                "startedAt": "2024-01-21T08:15:28Z",
            },
        },
        {
            "name": "sealer",
            "kind": "consumer",
            "state": "live",
            "position": 4720,
            "lagEvents": 0,
            "lagSeconds": 0.0,
            "perSecond": 12.5,
            "updatedAt": "2024-01-21T08:15:30.250Z",
            "rebuild": None,
        },
    ],
}
