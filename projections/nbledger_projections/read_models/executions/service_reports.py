"""The report that the service makes of a run: recorded in each of its forms, told as one."""

from collections.abc import Mapping
from typing import Any

from nbledger_domain.execution import Execution


def is_own_report(attributes: Mapping[str, Any]) -> bool:
    """Whether a report is the run's own: no other says whether it shows code."""
    return "code" in attributes


def is_print(event: Execution.ArtifactStored) -> bool:
    """Whether this is the run's own report as PDF, which is printed from the one in HTML."""
    told = event.attributes
    return event.kind == "report" and is_own_report(told) and told.get("format") == "pdf"
