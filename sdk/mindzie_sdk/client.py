"""The client that a notebook's cells use."""

import os
from typing import TYPE_CHECKING

from mindzie_sdk.sample import sample_event_log

if TYPE_CHECKING:
    import pandas as pd

DATASET_VARIABLE = "MINDZIE_DATASET_ID"
"""Environment variable in which a kernel finds the dataset that its notebook is bound to."""


class DatasetUnavailableError(LookupError):
    """The dataset is not held by the service that runs the notebook."""


class ProcessMiningClient:
    """Access to the event logs of the notebook's project.

    Example::

        client = ProcessMiningClient()
        log = client.load_sample_log()
    """

    def __init__(self) -> None:
        self.dataset_id: str | None = os.environ.get(DATASET_VARIABLE) or None
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
