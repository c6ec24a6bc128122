"""What notebooks import to work with process data: ``ProcessMiningClient``.

It runs inside the kernel, needs no network and no secret, and imports nothing of the service.
"""

from mindzie_sdk.client import ProcessMiningClient
from mindzie_sdk.results import Result
from mindzie_sdk.run import DatasetUnavailableError
from mindzie_sdk.sample import sample_event_log

__all__ = ["DatasetUnavailableError", "ProcessMiningClient", "Result", "sample_event_log"]
