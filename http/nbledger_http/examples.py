"""Examples of bodies, shown in the OpenAPI document; tests check them against the schemas."""

import json
from typing import Any

_NOTEBOOK_ID = "aa0e8400-e29b-41d4-a716-446655440000"
_EXECUTION_ID = "bb0e8400-e29b-41d4-a716-446655440000"
_PROJECT_ID = "660e8400-e29b-41d4-a716-446655440000"
_DATASET_ID = "880e8400-e29b-41d4-a716-446655440000"
_LIBRARY_ID = "bb0e8400-e29b-41d4-a716-446655440000"
_LINK = (
    "https://nbledger.example.com/downloads/770e8400-e29b-41d4-a716-446655440000/"
    f"{_PROJECT_ID}/{_NOTEBOOK_ID}/{'5f' * 32}/%s?contentType=…&expires=…&signature=…"
)

INTEGRATION: dict[str, Any] = {
    "enrichmentMode": True,
    "datasetBinding": _DATASET_ID,
    "outputFormat": "enriched_dataframe",
    "autoExecution": False,
}

_FILE: dict[str, Any] = {
    "path": "data/input.csv",
    "contentType": "text/csv",
    "size": 20480,
    "digest": "7b" * 32,
    "dateModified": "2024-01-20T10:30:00.000Z",
}

FILES_CHANGED: dict[str, Any] = {
    "files": [_FILE],
    "notebookVersion": "1.3.2",
    "notebookEtag": '"v9.p4711"',
    "warnings": [],
}

FILE_LIST: dict[str, Any] = {
    "files": [_FILE],
    "notebookVersion": "1.3.2",
    "totalSize": 20480,
    "totalCount": 1,
    "page": 1,
    "pageSize": 20,
    "hasNextPage": False,
}

NOTEBOOK: dict[str, Any] = {
    "notebookId": _NOTEBOOK_ID,
    "projectId": _PROJECT_ID,
    "notebookName": "Process Mining Analysis",
    "notebookDescription": "Custom analysis for customer journey optimization",
    "notebookVersion": "1.3.2",
    "kernelType": "python3",
    "template": None,
    "status": "Ready",
    "integration": INTEGRATION,
    "cells": [
        {
            "cellId": "cell-001",
            "cellType": "code",
            "content": "import pandas as pd",
            "metadata": {},
            "executionCount": 15,
            "hasOutput": True,
            "lastExecuted": "2024-01-20T10:30:00.000Z",
            "executionStatus": "Success",
            "lastModified": "2024-01-19T14:20:00.000Z",
        },
        {
            "cellId": "cell-002",
            "cellType": "markdown",
            "content": "# Findings",
            "metadata": {},
            "lastModified": "2024-01-19T14:20:00.000Z",
        },
    ],
    "environment": {
        "pythonVersion": "3.11.9",
        "packages": ["pandas", "numpy", "scikit-learn", "mindzie-sdk"],
        "customLibraries": ["process_mining_utils", "customer_analytics"],
    },
    "dateCreated": "2024-01-15T10:30:00.000Z",
    "dateModified": "2024-01-20T10:30:00.000Z",
    "createdBy": "user123",
    "lastExecutionDate": "2024-01-20T10:30:00.000Z",
    "executionCount": 47,
    "files": [_FILE],
}

NOTEBOOK_LIST: dict[str, Any] = {
    "notebooks": [
        {
            "notebookId": _NOTEBOOK_ID,
            "notebookName": "Process Mining Analysis",
            "kernelType": "python3",
            "status": "Ready",
            "enrichmentMode": True,
            "cellCount": 12,
            "lastExecutionDate": "2024-01-20T10:30:00.000Z",
            "dateCreated": "2024-01-15T10:30:00.000Z",
        }
    ],
    "totalCount": 8,
    "page": 1,
    "pageSize": 20,
    "hasNextPage": False,
}

CREATE_NOTEBOOK: dict[str, Any] = {
    "notebookName": "Advanced Customer Analytics",
    "notebookDescription": "Machine learning models for customer behavior prediction",
    "kernelType": "python3",
    "template": "process_mining_starter",
    "integration": INTEGRATION,
    "environment": {
        "packages": ["pandas", "numpy", "scikit-learn", "matplotlib", "seaborn"],
        "customLibraries": ["process_mining_utils"],
    },
    "initialCells": [
        {"cellType": "markdown", "content": "# Customer Analytics Notebook"},
        {"cellType": "code", "content": "import pandas as pd"},
    ],
}

_SESSION = {
    "kernelType": "python3",
    "offered": True,
    "language": "python",
    "languageVersion": "3.11.9",
}

NEW_NOTEBOOK: dict[str, Any] = {
    **NOTEBOOK,
    "notebookVersion": "1.0.0",
    "session": _SESSION,
    "warnings": [],
}

CHANGED_NOTEBOOK: dict[str, Any] = {**NOTEBOOK, "warnings": []}

UPLOADED_NOTEBOOK: dict[str, Any] = {
    **NEW_NOTEBOOK,
    "parsing": {
        "nbformat": "4.2",
        "cells": {"code": 1, "markdown": 1, "raw": 0, "total": 2},
        "upgrades": ["nbformat 4.2 to 4.5"],
    },
}

UPDATE_NOTEBOOK: dict[str, Any] = {
    "notebookName": "Advanced Customer Analytics v2",
    "notebookDescription": "Enhanced ML models with real-time prediction capabilities",
    "integration": {**INTEGRATION, "autoExecution": True, "scheduleExecution": "0 2 * * *"},
    "environment": {
        "packages": ["pandas", "numpy", "scikit-learn", "tensorflow", "matplotlib"],
        "customLibraries": ["process_mining_utils", "ml_models"],
    },
}

DELETION: dict[str, Any] = {
    "notebookId": _NOTEBOOK_ID,
    "status": "Deleting",
    "detail": "Its executions have been told to end; the notebook is deleted with the last one.",
}

_PARAMETERS = {
    "dataset_id": _DATASET_ID,
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
}

_EXECUTION: dict[str, Any] = {
    "executionId": _EXECUTION_ID,
    "notebookId": _NOTEBOOK_ID,
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
    "warnings": [],
}

EXECUTION: dict[str, Any] = {
    **_EXECUTION,
    "status": "Error",
    "endTime": "2024-01-20T10:47:00.000Z",
    "totalDuration": "17 minutes",
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
    "terminationCode": "cell_error",
    "terminationCategory": "user_error",
    "error": {"terminationCode": "cell_error", "detail": "cell-002 raised KeyError"},
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
            if name not in ("cellResults", "attemptHistory", "error")
        }
    ],
    "totalCount": 1,
    "page": 1,
    "pageSize": 20,
    "hasNextPage": False,
}

RESULTS: dict[str, Any] = {
    "executionId": _EXECUTION_ID,
    "notebookId": _NOTEBOOK_ID,
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
            "downloadUrl": _LINK % "cell-002-bb0e8400.html",
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
            "downloadUrl": _LINK % "cell-005-bb0e8400.png",
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
            "downloadUrl": _LINK % "cell-008-bb0e8400.json",
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
                "notebookId": _NOTEBOOK_ID,
                "notebookVersion": "1.3.2",
                "executionId": _EXECUTION_ID,
            },
            "contentType": "text/csv",
            "size": 1204331,
            "digest": "5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d",
            "downloadUrl": _LINK % "enriched-bb0e8400.csv",
            "alternatives": [
                {
                    "role": "table",
                    "fileName": "enriched-bb0e8400.parquet",
                    "contentType": "application/vnd.apache.parquet",
                    "size": 310555,
                    "digest": "7c" * 32,
                    "downloadUrl": _LINK % "enriched-bb0e8400.parquet",
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
            "downloadUrl": _LINK % "model-bb0e8400.pkl",
            "alternatives": [
                {
                    "role": "skops",
                    "fileName": "model-bb0e8400.skops",
                    "contentType": "application/octet-stream",
                    "size": 90412,
                    "digest": "6e" * 32,
                    "downloadUrl": _LINK % "model-bb0e8400.skops",
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
            "downloadUrl": _LINK % "report-bb0e8400.html",
            "alternatives": [],
        }
    ],
    "files": [],
    "metrics": {"fitness": 0.93},
    "runWarnings": [],
}

HISTORY: dict[str, Any] = {
    "events": [
        {
            "position": 4711,
            "type": "notebook.renamed.v1",
            "version": 2,
            "streamId": _NOTEBOOK_ID,
            "eventId": "0190163d-8694-739b-aea5-966c26f8ad90",
            "actor": "user123",
            "time": "2024-01-20T10:30:00.000Z",
            "recordedAt": "2024-01-20T10:30:00.002Z",
            "correlationId": None,
            "causationId": None,
            "data": {"name": "Advanced Customer Analytics v2"},
            "erased": False,
            "digest": "5f" * 32,
            "chain": "a0" * 32,
        }
    ],
    "next": None,
}

_CLAIMED: dict[str, Any] = {
    **HISTORY["events"][0],
    "position": 4712,
    "type": "execution.claimed.v1",
    "streamId": _EXECUTION_ID,
    "data": {"epoch": 1, "workerId": "worker-1"},
}
TEMPLATES: dict[str, Any] = {
    "templates": [
        {
            "name": "conformance",
            "title": "Conformance",
            "description": "Which cases keep to the process as it is meant to be?",
            "kernelType": "python3",
            "parameters": [
                {
                    "name": "reference_share",
                    "default": 0.5,
                    "description": "the most frequent ways of this share of the cases are the "
                    "process",
                }
            ],
        }
    ]
}
KERNELS: dict[str, Any] = {
    "kernels": [
        {
            "kernelType": "python3",
            "language": "python",
            "languageVersion": "3.11.9",
            "workers": 2,
            "waiting": 4,
            "memoryPerWaitingKernel": "33 MB",
            "memoryPerWaitingBytes": 33_000_000,
        }
    ]
}

EVENTS = (
    "retry: 1000\n\n"
    f"id: 4712\nevent: execution.claimed.v1\ndata: {json.dumps(_CLAIMED, ensure_ascii=False)}\n\n"
)

HEALTHY: dict[str, Any] = {"status": "ok", "missing": []}
UNHEALTHY: dict[str, Any] = {"status": "unavailable", "missing": ["database"]}

_COLUMNS = [
    {"name": "case_id", "type": "string"},
    {"name": "activity", "type": "string"},
    {"name": "timestamp", "type": "datetime"},
]

_DATASET_VERSION: dict[str, Any] = {
    "version": 1,
    "rowCount": 15420,
    "size": 183442,
    "digest": "5f" * 32,
    "lineage": {"kind": "upload", "fileName": "journeys.csv"},
    "dateCreated": "2024-01-15T10:30:00.000Z",
    "createdBy": "user123",
}

DATASET: dict[str, Any] = {
    "datasetId": _DATASET_ID,
    "projectId": _PROJECT_ID,
    "datasetName": "Customer journeys",
    "version": 2,
    "rowCount": 15420,
    "columns": [*_COLUMNS, {"name": "journey_score", "type": "number"}],
    "versions": [
        {
            "version": 2,
            "rowCount": 15420,
            "size": 201033,
            "digest": "a7" * 32,
            "lineage": {
                "kind": "execution",
                "executionId": _EXECUTION_ID,
                "notebookId": _NOTEBOOK_ID,
                "notebookVersion": "1.3.2",
                "sourceDatasetId": _DATASET_ID,
                "sourceVersion": 1,
            },
            "dateCreated": "2024-01-20T10:47:00.000Z",
            "createdBy": "user123",
        },
        {**_DATASET_VERSION, "columns": _COLUMNS},
    ],
    "dateCreated": "2024-01-15T10:30:00.000Z",
    "dateModified": "2024-01-20T10:47:00.000Z",
    "createdBy": "user123",
}

NEW_DATASET: dict[str, Any] = {
    **DATASET,
    "version": 1,
    "columns": _COLUMNS,
    "versions": [_DATASET_VERSION],
    "dateModified": "2024-01-15T10:30:00.000Z",
    "parsing": {"encoding": "utf-8", "delimiter": ","},
    "warnings": [],
}

DATASET_LIST: dict[str, Any] = {
    "datasets": [
        {
            "datasetId": _DATASET_ID,
            "datasetName": "Customer journeys",
            "version": 2,
            "rowCount": 15420,
            "columnCount": 4,
            "size": 201033,
            "dateCreated": "2024-01-15T10:30:00.000Z",
            "dateModified": "2024-01-20T10:47:00.000Z",
        }
    ],
    "totalCount": 1,
    "page": 1,
    "pageSize": 20,
    "hasNextPage": False,
}

LIBRARY: dict[str, Any] = {
    "libraryId": _LIBRARY_ID,
    "projectId": _PROJECT_ID,
    "name": "our-rules",
    "version": "1.2.0",
    "fileName": "our_rules-1.2.0-py3-none-any.whl",
    "size": 5231,
    "digest": "c4" * 32,
    "requiresPython": ">=3.11",
    "dependencies": ["tabulate>=0.9"],
    "uploadedAt": "2024-01-15T10:30:00.000Z",
    "uploadedBy": "user123",
}

LIBRARY_LIST: dict[str, Any] = {
    "libraries": [
        {
            key: LIBRARY[key]
            for key in ("libraryId", "name", "version", "fileName", "size", "uploadedAt")
        }
    ],
    "totalCount": 1,
    "page": 1,
    "pageSize": 20,
    "hasNextPage": False,
}
