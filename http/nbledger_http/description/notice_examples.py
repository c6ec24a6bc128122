"""Examples of notices, as OpenAPI shows them."""

from typing import Any

from nbledger_http.description.example_ids import EXECUTION_ID, NOTEBOOK_ID

_SLOW: dict[str, Any] = {
    "startedAt": "2024-01-20T10:30:00.010Z",
    "seconds": 960.7,
    "thresholdSeconds": 960.0,
    "usual": {"runs": 12, "lowSeconds": 420.0, "highSeconds": 480.0},
}

SLOW_RUN_TEXT = (
    "The run takes longer than usual: more than 16 minutes (16 minutes when it was noticed). "
    "The middle half of the last 12 completed runs took 7 minutes to 8 minutes."
)

DURATION_WARNING: dict[str, Any] = {**_SLOW, "toldAt": "2024-01-20T10:46:00.720Z"}

NOTICE_LIST: dict[str, Any] = {
    "notices": [
        {
            "noticeId": "5a8f0f0e-6d0c-5d59-9a2c-6f0f0c1f4a11",
            "kind": "runSlow",
            "toldAt": "2024-01-20T10:46:00.720Z",
            "position": 4712,
            "text": SLOW_RUN_TEXT,
            "notebookId": NOTEBOOK_ID,
            "executionId": EXECUTION_ID,
            "run": _SLOW,
        },
        {
            "noticeId": "0b7f6a52-8a9e-5b0a-8e4a-1f2b8ad0f6c2",
            "kind": "scheduleFailing",
            "toldAt": "2024-01-20T01:00:14.020Z",
            "position": 4402,
            "text": "The schedule fails: 3 runs have failed in a row, the last with cell_error.",
            "notebookId": NOTEBOOK_ID,
            "scheduleId": "1d4c1ba0-5a0f-5f8e-9a53-0b4c6f7a2f10",
            "schedule": {
                "failures": 3,
                "since": "2024-01-18T01:00:12.400Z",
                "firstExecutionId": "cc0e8400-e29b-41d4-a716-446655440000",
                "lastExecutionId": EXECUTION_ID,
                "terminationCode": "cell_error",
            },
        },
        {
            "noticeId": "c5d4f0a7-2d3f-5f0d-8d8a-7d3c1f8f0e90",
            "kind": "kernelUnavailable",
            "toldAt": "2024-01-19T16:20:31.000Z",
            "position": 4120,
            "text": "No worker offers the kernel type r: 4 runs wait for it.",
            "kernelType": "r",
            "kernel": {
                "waiting": 4,
                "waitingSince": "2024-01-19T16:12:00.000Z",
                "since": "2024-01-19T16:20:01.000Z",
                "overAt": "2024-01-19T16:41:10.000Z",
                "overReason": "worker_alive",
            },
        },
    ],
    "totalCount": 3,
    "page": 1,
    "pageSize": 20,
    "hasNextPage": False,
}
