"""Examples of notebooks, as OpenAPI shows them."""

from typing import Any

from nbledger_http.description import automation_examples, schedule_examples
from nbledger_http.description.example_ids import (
    DATASET_ID,
    NOTEBOOK_ID,
    PROJECT_ID,
)

INTEGRATION: dict[str, Any] = {
    "enrichmentMode": True,
    "datasetBinding": DATASET_ID,
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
    "notebookId": NOTEBOOK_ID,
    "projectId": PROJECT_ID,
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
            "notebookId": NOTEBOOK_ID,
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

CHANGED_NOTEBOOK: dict[str, Any] = {
    **NOTEBOOK,
    "integration": {
        **INTEGRATION,
        "autoExecution": True,
        "scheduleExecution": "CRON_TZ=Europe/Berlin 0 2 * * *",
    },
    "schedule": schedule_examples.SUMMARY,
    "automatic": automation_examples.SUMMARY,
    "warnings": [],
}

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
    "notebookId": NOTEBOOK_ID,
    "status": "Deleting",
    "detail": "Its executions are being cancelled; the notebook is deleted with the last one.",
}

PARAMETERS: dict[str, Any] = {
    "notebookId": NOTEBOOK_ID,
    "notebookVersion": "1.3.2",
    "kernelType": "python3",
    "language": "python",
    "cellId": "cell-002",
    "parameters": [
        {
            "name": "analysis_period",
            "types": ["string"],
            "declaredType": None,
            "required": False,
            "default": "2024-01",
            "defaultSource": '"2024-01"',
            "help": "year and month",
        },
        {
            "name": "limit",
            "types": ["integer", "null"],
            "declaredType": "int | None",
            "required": True,
            "defaultSource": None,
            "help": None,
        },
    ],
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
