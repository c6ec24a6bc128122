"""Examples of executions and their results, as OpenAPI shows them."""

import json
from typing import Any

from nbledger_http.description.example_ids import (
    DATASET_ID,
    EXECUTION_ID,
    LINK,
    NOTEBOOK_ID,
    PROJECT_ID,
    REPAIR_ID,
)
from nbledger_http.description.notice_examples import DURATION_WARNING, SLOW_RUN_TEXT

_PARAMETERS = {
    "dataset_id": DATASET_ID,
    "analysis_period": "2024-01",
    "include_weekends": False,
}

_RETRY_POLICY = {"maxAttempts": 3, "retryOn": ["worker_lost", "kernel_died"]}

EXECUTE_NOTEBOOK: dict[str, Any] = {
    "executionMode": "range",
    "cellRange": {"startCell": "cell-001", "endCell": "cell-010"},
    "parameters": _PARAMETERS,
    "outputOptions": {
        "captureOutputs": True,
        "saveIntermediateResults": True,
        "generateReport": True,
    },
    "timeout": 1800,
    "cellTimeout": 600,
    "priority": "Normal",
    "continueOnError": False,
    "retryPolicy": _RETRY_POLICY,
    "tags": ["nightly", "customer 17"],
}

RUN_PLAN: dict[str, Any] = {
    "dryRun": True,
    "notebookId": NOTEBOOK_ID,
    "notebookVersion": "1.3.2",
    "kernel": {
        "kernelType": "python3",
        "offered": True,
        "language": "python",
        "languageVersion": "3.12.3",
    },
    "cellRange": {"startCell": "cell-001", "endCell": "cell-002"},
    "cells": [
        {"cellId": "cell-001", "cellType": "markdown"},
        {"cellId": "cell-002", "cellType": "code"},
    ],
    "parameters": _PARAMETERS,
    "tags": ["nightly", "customer 17"],
    "priority": "Normal",
    "timeout": 1800.0,
    "continueOnError": False,
    "warnings": ["/parameters/include_weekends: is true or false, and the notebook takes text"],
}

_EXECUTION: dict[str, Any] = {
    "executionId": EXECUTION_ID,
    "notebookId": NOTEBOOK_ID,
    "notebookVersion": "1.3.2",
    "kernelType": "python3",
    "startTime": "2024-01-20T10:30:00.000Z",
    "estimatedDuration": "15-20 minutes",
    "parameters": _PARAMETERS,
    "requestedBy": "user123",
    "priority": "Normal",
    "timeout": 1800,
    "cellTimeout": 600,
    "continueOnError": False,
    "retryPolicy": _RETRY_POLICY,
    "cancelRequested": False,
}

NEW_EXECUTION: dict[str, Any] = {
    **_EXECUTION,
    "status": "Running",
    "phase": "Queued",
    "currentCell": "cell-001",
    "progress": {
        "totalCells": 2,
        "completedCells": 0,
        "successfulCells": 0,
        "failedCells": 0,
        "currentCellIndex": 1,
        "percentComplete": 0,
    },
    "cellResults": [
        {"cellId": "cell-001", "status": "Pending", "hasOutput": False},
        {"cellId": "cell-002", "status": "Pending", "hasOutput": False},
    ],
    "outputs": {"dataFrames": 0, "plots": 0, "models": 0, "reports": 0, "files": 0},
    "resources": {
        "peakMemoryUsage": None,
        "cpuTime": None,
        "diskUsage": None,
        "peakMemoryBytes": None,
        "cpuSeconds": None,
        "diskBytes": None,
    },
    "attempts": 0,
    "attemptHistory": [],
    "runWarnings": [],
    "warnings": [],
}

EXECUTION: dict[str, Any] = {
    **_EXECUTION,
    "status": "Error",
    "endTime": "2024-01-20T10:47:00.000Z",
    "totalDuration": "17 minutes",
    "estimatedDuration": "7-8 minutes",
    "progress": {
        "totalCells": 2,
        "completedCells": 2,
        "successfulCells": 1,
        "failedCells": 1,
        "percentComplete": 100,
    },
    "cellResults": [
        {
            "cellId": "cell-001",
            "status": "Success",
            "executionTime": "3.2 seconds",
            "hasOutput": True,
            "outputType": "display_data",
            "resources": {
                "peakMemoryUsage": "1.1 GB",
                "cpuTime": "2.9 seconds",
                "diskUsage": "0 bytes",
                "peakMemoryBytes": 1_100_000_000,
                "cpuSeconds": 2.9,
                "diskBytes": 0,
            },
        },
        {
            "cellId": "cell-002",
            "status": "Error",
            "executionTime": "1.1 seconds",
            "hasOutput": True,
            "outputType": "error",
            "errorType": "KeyError",
            "errorMessage": "'customer_id' column not found in dataset",
        },
    ],
    "outputs": {
        "dataFrames": 3,
        "plots": 5,
        "models": 2,
        "reports": 1,
        "files": 0,
        "enrichedData": {
            "recordCount": 15420,
            "newColumns": ["customer_segment", "journey_score", "anomaly_flag"],
            "datasets": [
                {
                    "name": "customer_journey_enhanced",
                    "datasetId": "880e8400-e29b-41d4-a716-446655440000",
                    "recordCount": 15420,
                    "newColumns": ["customer_segment", "journey_score", "anomaly_flag"],
                },
            ],
        },
    },
    "resources": {
        "peakMemoryUsage": "2.3 GB",
        "cpuTime": "8.5 minutes",
        "diskUsage": "450 MB",
        "peakMemoryBytes": 2_300_000_000,
        "cpuSeconds": 510.0,
        "diskBytes": 450_000_000,
    },
    "attempts": 1,
    "attemptHistory": [
        {
            "attempt": 1,
            "workerId": "worker-7f3a",
            "startTime": "2024-01-20T10:30:00.010Z",
            "endTime": "2024-01-20T10:47:00.000Z",
            "outcome": "cell_error",
            "detail": "cell-002 raised KeyError",
        }
    ],
    "runWarnings": [SLOW_RUN_TEXT],
    "durationWarning": DURATION_WARNING,
    "terminationCode": "cell_error",
    "terminationCategory": "user_error",
    "error": {"terminationCode": "cell_error", "detail": "cell-002 raised KeyError"},
    "repetitions": [{"executionId": REPAIR_ID, "kind": "repair"}],
}

CANCELLED_EXECUTION: dict[str, Any] = {
    **{name: value for name, value in NEW_EXECUTION.items() if name != "warnings"},
    "phase": "Executing",
    "attempts": 1,
    "attemptHistory": [
        {
            "attempt": 1,
            "workerId": "worker-7f3a",
            "startTime": "2024-01-20T10:30:00.010Z",
            "outcome": "Running",
        }
    ],
    "cancelRequested": True,
}

EXECUTION_LIST: dict[str, Any] = {
    "executions": [
        {
            name: value
            for name, value in EXECUTION.items()
            if name
            not in ("cellResults", "attemptHistory", "error", "repetitions", "durationWarning")
        }
    ],
    "totalCount": 1,
    "page": 1,
    "pageSize": 20,
    "hasNextPage": False,
}

RESULTS: dict[str, Any] = {
    "executionId": EXECUTION_ID,
    "notebookId": NOTEBOOK_ID,
    "notebookVersion": "1.3.2",
    "status": "Completed",
    "cells": [
        {
            "cellId": "cell-002",
            "status": "Success",
            "executionCount": 2,
            "outputCount": 1,
            "outputBytes": 41,
            "keptBytes": 41,
            "truncated": False,
            "digest": "51b9a53b70c1a2fd4ffb2bb0da8d4ba5bf0c8a5ff7dd52ff3d4cf9b7c5bba3a2",
        }
    ],
    "outputs": [
        {
            "cellId": "cell-002",
            "outputType": "display_data",
            "contentType": "text/html",
            "kind": "html",
            "title": "Dataset Overview",
            "content": "<div>Dataset contains 15,420 records...</div>",
            "size": 41,
            "digest": "9f0b1c59f1f6cfb7b1ad3c3df8d1bd64d2d6d5cf4e6f8c5b0c8e33d4ab6c1d20",
            "downloadUrl": LINK % "cell-002-bb0e8400.html",
        },
        {
            "cellId": "cell-005",
            "outputType": "image/png",
            "contentType": "image/png",
            "kind": "image",
            "title": "Customer Journey Flow Chart",
            "dimensions": {"width": 800, "height": 600},
            "size": 48211,
            "digest": "0d7c2f7f4b7a3f0f6f27e4f95a2e36a55db0d84a8f0e6f5b1a9c3d2e4f5a6b7c",
            "downloadUrl": LINK % "cell-005-bb0e8400.png",
        },
        {
            "cellId": "cell-008",
            "outputType": "application/json",
            "contentType": "application/json",
            "kind": "json",
            "title": "Process Mining Metrics",
            "content": {"avgCycleTime": "4.2 hours", "processEfficiency": 78.5},
            "size": 52,
            "digest": "c1a5298f939e87e8f962a5edfc206918c1a5298f939e87e8f962a5edfc206918",
            "downloadUrl": LINK % "cell-008-bb0e8400.json",
        },
    ],
    "totalCount": 3,
    "page": 1,
    "pageSize": 50,
    "hasNextPage": False,
    "enrichedDatasets": [
        {
            "name": "customer_journey_enhanced",
            "recordCount": 15420,
            "newColumns": ["customer_segment", "journey_score", "anomaly_flag"],
            "format": "pandas_dataframe",
            "columns": [
                {"name": "case_id", "type": "string"},
                {"name": "customer_segment", "type": "string"},
                {"name": "journey_score", "type": "number"},
                {"name": "anomaly_flag", "type": "boolean"},
            ],
            "datasetId": "990e8400-e29b-41d4-a716-446655440000",
            "version": 2,
            "lineage": {
                "sourceDatasetId": "880e8400-e29b-41d4-a716-446655440000",
                "sourceVersion": 1,
                "notebookId": NOTEBOOK_ID,
                "notebookVersion": "1.3.2",
                "executionId": EXECUTION_ID,
            },
            "contentType": "text/csv",
            "size": 1204331,
            "digest": "5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d",
            "downloadUrl": LINK % "enriched-bb0e8400.csv",
            "alternatives": [
                {
                    "role": "table",
                    "fileName": "enriched-bb0e8400.parquet",
                    "contentType": "application/vnd.apache.parquet",
                    "size": 310555,
                    "digest": "7c" * 32,
                    "downloadUrl": LINK % "enriched-bb0e8400.parquet",
                }
            ],
        }
    ],
    "models": [
        {
            "name": "customer_churn_predictor",
            "modelType": "RandomForestClassifier",
            "accuracy": 0.87,
            "features": ["journey_score", "cycle_time", "touchpoint_count"],
            "target": "churned",
            "metrics": {"accuracy": 0.87, "f1": 0.81},
            "libraries": {"scikit-learn": "1.7.2"},
            "contentType": "application/octet-stream",
            "size": 88120,
            "digest": "5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d",
            "downloadUrl": LINK % "model-bb0e8400.pkl",
            "alternatives": [
                {
                    "role": "skops",
                    "fileName": "model-bb0e8400.skops",
                    "contentType": "application/octet-stream",
                    "size": 90412,
                    "digest": "6e" * 32,
                    "downloadUrl": LINK % "model-bb0e8400.skops",
                }
            ],
        }
    ],
    "reports": [
        {
            "name": "Customer Analytics Summary",
            "format": "html",
            "title": "Customer Analytics Summary",
            "contentType": "text/html",
            "size": 201923,
            "digest": "5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d",
            "downloadUrl": LINK % "report-bb0e8400.html",
            "alternatives": [],
        }
    ],
    "files": [],
    "metrics": {"fitness": 0.93},
    "runWarnings": [],
}

_CLAIMED: dict[str, Any] = {
    "position": 4712,
    "type": "execution.claimed.v1",
    "version": 2,
    "streamId": EXECUTION_ID,
    "eventId": "0190163d-8694-739b-aea5-966c26f8ad90",
    "subjectId": NOTEBOOK_ID,
    "projectId": PROJECT_ID,
    "actor": "worker:worker-1",
    "actorId": "worker:worker-1",
    "onBehalfOf": None,
    "time": "2024-01-20T10:30:00.000Z",
    "recordedAt": "2024-01-20T10:30:00.002Z",
    "requestId": None,
    "correlationId": "01HZX3",
    "causationId": "0190163d-8690-7a11-b7a2-1d2f6a3c9e10",
    "cause": {
        "kind": "event",
        "ids": {
            "eventId": "0190163d-8690-7a11-b7a2-1d2f6a3c9e10",
            "eventType": "execution.requested.v1",
            "streamId": EXECUTION_ID,
            "position": 4711,
        },
    },
    "data": {"epoch": 1, "workerId": "worker-1"},
    "erased": False,
    "erasure": None,
    "digest": "5f" * 32,
    "chain": "a0" * 32,
    "formula": 2,
    "salt": "1c" * 16,
}

EVENTS = (
    "retry: 1000\n\n"
    f"id: 4712\nevent: execution.claimed.v1\ndata: {json.dumps(_CLAIMED, ensure_ascii=False)}\n\n"
)
