"""What the description shows of a comparison."""

from typing import Any, Final

from nbledger_http.description.example_ids import NOTEBOOK_ID

COMPARISON: Final[dict[str, Any]] = {
    "notebookId": NOTEBOOK_ID,
    "from": {"notebookVersion": "1.2.0", "position": 41, "time": "2024-01-20T10:30:00.000Z"},
    "to": {"notebookVersion": "1.3.1", "position": 58, "time": "2024-01-21T08:00:12.345Z"},
    "identical": False,
    "counts": {"added": 1, "removed": 0, "changed": 1, "moved": 0, "unchanged": 1},
    "notebook": [
        {"path": "/notebookName", "before": "Churn", "after": "Churn by region"},
    ],
    "parameters": [],
    "datasets": [],
    "files": [
        {
            "path": "/regions.csv",
            "after": {"digest": "9f86d081" * 8, "size": 2048, "executable": False},
        },
    ],
    "cells": [
        {
            "cellId": "cell-001",
            "change": "unchanged",
            "cellType": "markdown",
            "before": 0,
            "after": 0,
        },
        {
            "cellId": "cell-002",
            "change": "changed",
            "cellType": "code",
            "before": 1,
            "after": 1,
            "parts": ["source"],
            "diff": [
                {
                    "op": "patch",
                    "key": "source",
                    "diff": [
                        {
                            "op": "patch",
                            "key": 0,
                            "diff": [{"op": "addrange", "key": 9, "valuelist": "0"}],
                        }
                    ],
                }
            ],
        },
        {"cellId": "cell-003", "change": "added", "cellType": "code", "after": 2},
    ],
    "diff": [
        {
            "op": "patch",
            "key": 1,
            "diff": [
                {
                    "op": "patch",
                    "key": "source",
                    "diff": [
                        {
                            "op": "patch",
                            "key": 0,
                            "diff": [{"op": "addrange", "key": 9, "valuelist": "0"}],
                        }
                    ],
                }
            ],
        },
        {
            "op": "addrange",
            "key": 2,
            "valuelist": [
                {
                    "id": "cell-003",
                    "cell_type": "code",
                    "metadata": {},
                    "source": "regions.head()",
                    "execution_count": None,
                    "outputs": [],
                }
            ],
        },
    ],
}
