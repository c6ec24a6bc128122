"""The example of a provenance, as OpenAPI shows it."""

from typing import Any

from nbledger_domain.vocabulary.media_types import PARQUET
from nbledger_http.description.example_ids import (
    DATASET_ID,
    EXECUTION_ID,
    NOTEBOOK_ID,
    PROJECT_ID,
)

TENANT_ID = "770e8400-e29b-41d4-a716-446655440000"

PRINCIPAL_ID = "11c61f14-6d5b-4a36-9d0e-1c9cbb9a3a0e"


def _content(media_type: str, digit: str, size: int) -> dict[str, Any]:
    return {"contentType": media_type, "digest": digit * 64, "size": size}


PROVENANCE: dict[str, Any] = {
    "executionId": EXECUTION_ID,
    "tenantId": TENANT_ID,
    "projectId": PROJECT_ID,
    "requestedBy": "ada",
    "requestedById": PRINCIPAL_ID,
    "requestedAt": "2024-01-20T10:30:00.000000Z",
    "startTime": "2024-01-20T10:30:00.100000Z",
    "endTime": "2024-01-20T10:30:02.500000Z",
    "status": "Completed",
    "terminationCode": "success",
    "cause": {"kind": "request"},
    "causes": [],
    "notebook": {
        "notebookId": NOTEBOOK_ID,
        "name": "Loans",
        "description": "",
        "version": "1.3.2",
        "streamVersion": 7,
        "digest": "a" * 64,
        "uploaded": None,
    },
    "parameters": {"analysis_period": "2024-01"},
    "options": {
        "timeout": 1800.0,
        "cellTimeout": None,
        "priority": "Normal",
        "continueOnError": False,
        "outputOptions": {
            "captureOutputs": True,
            "saveIntermediateResults": True,
            "generateReport": False,
        },
        "retryPolicy": None,
    },
    "tags": [],
    "kernel": {
        "kernelType": "python3",
        "kernelspec": "python3",
        "implementation": "ipython",
        "implementationVersion": "9.1.0",
        "language": "python",
        "languageVersion": "3.11.7",
    },
    "environment": {
        "packages": ["tabulate>=0.9"],
        "customLibraries": [],
        "provided": ["tabulate==0.9.0"],
        "resolved": _content("text/plain", "b", 4210),
    },
    "datasets": [
        {
            "datasetId": DATASET_ID,
            "version": 3,
            "name": "loans",
            "content": _content(PARQUET, "c", 120000),
            "rows": 4000,
        }
    ],
    "inputFiles": [{"path": "data/orders.csv", "content": _content("text/csv", "d", 812)}],
    "attempts": [
        {
            "attempt": 1,
            "workerId": "worker-1-4711-a1b2c3",
            "startTime": "2024-01-20T10:30:00.100000Z",
            "endTime": "2024-01-20T10:30:02.500000Z",
            "outcome": "success",
        }
    ],
    "cells": [
        {
            "cellId": "cell-001",
            "cellType": "code",
            "status": "Success",
            "startTime": "2024-01-20T10:30:00.300000Z",
            "endTime": "2024-01-20T10:30:02.400000Z",
            "executionCount": 1,
            "error": None,
            "outputsDigest": "e" * 64,
            "outputs": [
                {"outputType": "stream", "representations": [_content("text/plain", "f", 3)]}
            ],
        }
    ],
    "artifacts": [
        {
            "kind": "file",
            "name": "note.txt",
            "fileName": "note.txt",
            "cellId": None,
            "content": _content("text/plain", "0", 12),
            "datasetId": None,
            "datasetVersion": None,
        }
    ],
    "metrics": {"slow cases": 0.25},
    "resources": {"peakMemoryBytes": 94371840, "cpuSeconds": 1.9, "diskBytes": 8192},
    "warnings": [],
    "firstPosition": 4711,
    "lastPosition": 4718,
    "events": 8,
    "log": {
        "origin": f"ledger.example.com/audit/log/{TENANT_ID}",
        "size": 4800,
        "requested": 4702,
        "last": 4709,
    },
}
