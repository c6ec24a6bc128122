"""Examples of executions that repeat others, as OpenAPI shows them."""

from typing import Any

from nbledger_http.description.example_ids import DATASET_ID, EXECUTION_ID, REPAIR_ID
from nbledger_http.description.execution_examples import EXECUTION, NEW_EXECUTION

RERUN: dict[str, Any] = {"version": "same", "datasets": "same", "priority": "High"}

REPAIR: dict[str, Any] = {
    "version": "newest",
    "datasets": "newest",
    "cells": "all",
    "parameters": {"analysis_period": "2024-02"},
    "parameterMode": "merge",
}

RERUN_EXECUTION: dict[str, Any] = {
    **NEW_EXECUTION,
    "executionId": REPAIR_ID,
    "cause": {"kind": "rerun", "executionId": EXECUTION_ID},
    "priority": "High",
}

REPAIR_EXECUTION: dict[str, Any] = {
    **NEW_EXECUTION,
    "executionId": REPAIR_ID,
    "notebookVersion": "1.4.0",
    "cause": {"kind": "repair", "executionId": EXECUTION_ID},
    "parameters": {**NEW_EXECUTION["parameters"], "analysis_period": "2024-02"},
}

_LINK = {"executionId": REPAIR_ID, "kind": "repair"}
_TOLD = (
    "executionId",
    "notebookVersion",
    "status",
    "startTime",
    "endTime",
    "totalDuration",
    "terminationCode",
    "terminationCategory",
    "error",
    "attempts",
    "attemptHistory",
    "requestedBy",
)

CHAIN: dict[str, Any] = {
    "firstExecutionId": EXECUTION_ID,
    "executions": [
        {
            **{name: EXECUTION[name] for name in _TOLD},
            "cause": {"kind": "request"},
            "repetitions": [_LINK],
        },
        {
            **{name: EXECUTION[name] for name in _TOLD if name != "error"},
            "executionId": REPAIR_ID,
            "cause": REPAIR_EXECUTION["cause"],
            "repetitions": [],
            "notebookVersion": "1.4.0",
            "status": "Completed",
            "terminationCode": "success",
            "terminationCategory": "success",
            "attemptHistory": [
                {
                    "attempt": 1,
                    "workerId": "worker-7f3a",
                    "startTime": "2024-01-20T11:02:00.010Z",
                    "endTime": "2024-01-20T11:18:00.000Z",
                    "outcome": "success",
                }
            ],
            "startTime": "2024-01-20T11:02:00.000Z",
            "endTime": "2024-01-20T11:18:00.000Z",
            "totalDuration": "16 minutes",
        },
    ],
    "complete": True,
}

CHANGES: dict[str, Any] = {
    "executionId": REPAIR_ID,
    "basis": "asked",
    "against": {
        "executionId": EXECUTION_ID,
        "notebookVersion": "1.3.2",
        "status": "Error",
        "startTime": "2024-01-20T10:30:00.000Z",
    },
    "changes": {
        "differs": ["notebook", "parameters", "datasets", "environment"],
        "unknown": [],
        "notebook": {
            "version": {"before": "1.3.2", "after": "1.4.0"},
            "cells": {
                "added": ["cell-003"],
                "removed": [],
                "changed": [{"cellId": "cell-002", "parts": ["source"]}],
                "reordered": False,
            },
        },
        "cellRange": {"before": None, "after": None},
        "parameters": {
            "added": {},
            "removed": {},
            "changed": {"analysis_period": {"before": "2024-01", "after": "2024-02"}},
        },
        "options": {"added": {}, "removed": {}, "changed": {}},
        "datasets": [{"datasetId": DATASET_ID, "before": 3, "after": 4, "changed": True}],
        "environment": {
            "packages": {"before": ["pandas"], "after": ["pandas"]},
            "customLibraries": {"before": [], "after": []},
            "provided": {
                "added": {},
                "removed": {},
                "changed": {"pandas": {"before": "2.2.3", "after": "2.3.1"}},
            },
        },
        "kernel": {
            "kernelType": {"before": "python3", "after": "python3"},
            "language": {"before": "python", "after": "python"},
            "languageVersion": {"before": "3.12.3", "after": "3.12.3"},
        },
        "inputFiles": {"added": {}, "removed": {}, "changed": {}},
    },
}
