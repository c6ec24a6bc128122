"""Examples of automatic execution, as OpenAPI shows them."""

from typing import Any

from nbledger_http.description.example_ids import DATASET_ID, EXECUTION_ID, NOTEBOOK_ID

SUMMARY: dict[str, Any] = {
    "on": ["dataset", "cells"],
    "quietSeconds": 5,
    "maxWaitSeconds": 60,
    "minIntervalSeconds": 0,
    "tags": ["on-change"],
}

AUTOMATION: dict[str, Any] = {
    "notebookId": NOTEBOOK_ID,
    "state": "waiting",
    "automatic": SUMMARY,
    "datasetId": DATASET_ID,
    "setBy": "user123",
    "gathering": {
        "triggerId": "0f3d6c1a-2b1e-5d55-9b4e-0a7c2f7f6b10",
        "changes": 3,
        "since": "2024-01-20T10:29:58.120Z",
        "waitsFor": "quiet",
        "dueAt": "2024-01-20T10:30:05.000Z",
    },
    "triggers": [
        {
            "triggerId": "7be2f6d8-4a54-5c0b-8a51-54f0a4cf9b71",
            "outcome": "started",
            "kind": "dataset",
            "changes": 2,
            "decidedAt": "2024-01-20T09:00:05.212Z",
            "datasetId": DATASET_ID,
            "datasetVersion": 12,
            "executionId": EXECUTION_ID,
            "execution": {"status": "Completed", "terminationCode": "success"},
        },
        {
            "triggerId": "0c7f7a7e-3a50-5f0e-8f0d-6a2f5d0c6b11",
            "outcome": "skipped",
            "kind": "dataset",
            "changes": 1,
            "decidedAt": "2024-01-20T08:59:40.190Z",
            "reason": "loop",
            "datasetId": DATASET_ID,
            "datasetVersion": 10,
            "chains": [[NOTEBOOK_ID]],
        },
    ],
}
