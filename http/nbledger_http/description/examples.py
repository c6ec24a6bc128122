"""Examples of bodies, shown in the OpenAPI document; tests check them against the schemas."""

from typing import Any

from nbledger_http.description.example_ids import (
    DATASET_ID,
    EXECUTION_ID,
    LIBRARY_ID,
    NOTEBOOK_ID,
    PROJECT_ID,
)

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
    ],
    "withoutWorkers": [
        {"kernelType": "r", "waiting": 4, "waitingSince": "2024-01-20T10:12:00.000Z"}
    ],
}


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
    "datasetId": DATASET_ID,
    "projectId": PROJECT_ID,
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
                "executionId": EXECUTION_ID,
                "notebookId": NOTEBOOK_ID,
                "notebookVersion": "1.3.2",
                "sourceDatasetId": DATASET_ID,
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
            "datasetId": DATASET_ID,
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
    "libraryId": LIBRARY_ID,
    "projectId": PROJECT_ID,
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
