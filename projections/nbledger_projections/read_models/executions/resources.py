"""What a run has used, as its document shows it."""

from collections.abc import Sequence

from nbledger_domain.execution import (
    Execution,
    Resources,
)
from nbledger_projections.read_models.executions.documents import (
    EnrichedDataDocument,
    EnrichedDatasetDocument,
    ResourcesDocument,
)
from nbledger_projections.read_models.humanize import Duration, Size


def added_up(
    before: Sequence[EnrichedDatasetDocument], event: Execution.ArtifactStored
) -> EnrichedDataDocument:
    """All datasets; what was handed back under one name before is replaced."""
    count = event.attributes.get("recordCount", 0)
    dataset_id = event.attributes.get("datasetId")
    newest = EnrichedDatasetDocument(
        name=event.name,
        dataset_id=dataset_id if isinstance(dataset_id, str) else None,
        record_count=count if isinstance(count, int) else 0,
        new_columns=event.attributes.get("newColumns", []),
    )
    datasets = [*(each for each in before if each.name != event.name), newest]
    return EnrichedDataDocument(
        sum(each.record_count for each in datasets),
        list(dict.fromkeys(column for each in datasets for column in each.new_columns)),
        datasets,
    )


def resources_document(used: Resources) -> ResourcesDocument:
    """What was used, as numbers and to be put in words."""
    memory, cpu, disk = used.peak_memory_bytes, used.cpu_seconds, used.disk_bytes
    return ResourcesDocument(
        peak_memory_usage=None if memory is None else Size(memory),
        cpu_time=None if cpu is None else Duration(cpu),
        disk_usage=None if disk is None else Size(disk),
        peak_memory_bytes=memory,
        cpu_seconds=None if cpu is None else round(cpu, 3),
        disk_bytes=disk,
    )
