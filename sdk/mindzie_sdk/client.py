"""The client that a notebook's cells use."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindzie_sdk.sample import sample_event_log

if TYPE_CHECKING:
    import pandas as pd

RUN_FILE_VARIABLE = "NBLEDGER_RUN_FILE"
"""Environment variable in which a kernel finds the path of the file that tells of its run."""


class DatasetUnavailableError(LookupError):
    """The dataset is not held by the service that runs the notebook."""


def run_context() -> dict[str, Any]:
    """What is known of the run: ``executionId``, ``notebookId``, ``datasetBinding`` and others.

    Empty outside a run of the service.
    """
    path = os.environ.get(RUN_FILE_VARIABLE)
    try:
        return dict(json.loads(Path(path).read_text("utf-8"))) if path else {}
    except FileNotFoundError:
        return {}


class ProcessMiningClient:
    """Access to the event logs of the notebook's project.

    Example::

        client = ProcessMiningClient()
        log = client.load_sample_log()
    """

    def __init__(self) -> None:
        self.dataset_id: str | None = run_context().get("datasetBinding")
        """The dataset that the notebook is bound to, if it is bound to one."""

    def __repr__(self) -> str:
        return f"ProcessMiningClient(dataset_id={self.dataset_id!r})"

    def load_sample_log(self, cases: int = 400) -> "pd.DataFrame":
        """A made-up event log of a loan process: the same one at every call.

        One row per event, with the columns ``case_id``, ``activity``, ``timestamp`` (UTC),
        ``resource`` and ``amount``; sorted by time within each case.
        """
        return sample_event_log(cases)

    def load_dataset(self, dataset_id: str | None = None) -> "pd.DataFrame":
        """The rows of a dataset: the bound one unless another is named.

        Raises :class:`DatasetUnavailableError`, as this version of the service holds no
        datasets.
        """
        wanted = dataset_id or self.dataset_id
        if wanted is None:
            raise DatasetUnavailableError(
                "This notebook is bound to no dataset, and none was named."
            )
        raise DatasetUnavailableError(f"The service holds no dataset {wanted!r}.")
