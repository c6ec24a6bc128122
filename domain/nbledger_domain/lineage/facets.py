"""The facets of OpenLineage that documents have, each with the version of its schema."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from nbledger_domain.dataset import Column, DatasetVersion
from nbledger_domain.execution import Cause
from nbledger_domain.lineage import names
from nbledger_domain.lineage.facts import (
    EarlierRun,
    EngineFacts,
    Fault,
    PinnedNotebook,
    Project,
    Teller,
)
from nbledger_domain.vocabulary.addresses import project_path

Facet = dict[str, Any]

MOST_TEXT: Final = 10_000
"""Characters of a message, a description or a stack trace; the end of a trace is kept."""

_VERSIONS: Final = {
    "DatasetTypeDatasetFacet": "1-0-1",
    "DatasetVersionDatasetFacet": "1-0-1",
    "DocumentationDatasetFacet": "1-1-0",
    "DocumentationJobFacet": "1-1-0",
    "ErrorMessageRunFacet": "1-0-1",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "JobDependenciesRunFacet": "1-0-1",
    "JobTypeJobFacet": "2-0-4",
    "LifecycleStateChangeDatasetFacet": "1-0-1",
    "NominalTimeRunFacet": "1-0-1",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "ParentRunFacet": "1-2-0",
    "ProcessingEngineRunFacet": "1-1-1",
    "SchemaDatasetFacet": "1-2-0",
    "SourceCodeLocationJobFacet": "1-1-0",
    "StorageDatasetFacet": "1-0-1",
    "TagsRunFacet": "1-0-0",
}


def time(at: datetime) -> str:
    """A time as documents have it: UTC, with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def producer(teller: Teller) -> str:
    """The URI of what tells, in its version."""
    return f"urn:nbledger:{teller.version}"


def _facet(teller: Teller, kind: str, **members: Any) -> Facet:
    schema = f"https://openlineage.io/spec/facets/{_VERSIONS[kind]}/{kind}.json#/$defs/{kind}"
    return {"_producer": producer(teller), "_schemaURL": schema, **members}


def nominal_time(teller: Teller, due: datetime) -> Facet:
    """When a schedule had the run due."""
    return _facet(teller, "NominalTimeRunFacet", nominalStartTime=time(due))


def parent(teller: Teller, project: Project, repeats: Sequence[EarlierRun]) -> Facet:
    """The run that this one repeats, and the first of those that led to it."""
    first, last = (_run(teller, project, each) for each in (repeats[0], repeats[-1]))
    return _facet(teller, "ParentRunFacet", **first, root=last)


def dependencies(teller: Teller, project: Project, upstream: EarlierRun) -> Facet:
    """The run that led to this one."""
    direct = {
        "dependency_type": "DIRECT_INVOCATION",
        "sequence_trigger_rule": "FINISH_TO_START",
        "status_trigger_rule": "EXECUTE_EVERY_TIME",
    }
    told = _run(teller, project, upstream) | direct
    return _facet(teller, "JobDependenciesRunFacet", upstream=[told])


def _run(teller: Teller, project: Project, run: EarlierRun) -> dict[str, Any]:
    return {
        "run": {"runId": str(run.run_id)},
        "job": names.job(teller, project, run.notebook),
    }


def engine(teller: Teller, facts: EngineFacts) -> Facet:
    """The kernel."""
    return _facet(
        teller,
        "ProcessingEngineRunFacet",
        name=facts.name,
        version=facts.version,
        openlineageAdapterVersion=teller.version,
    )


def error_message(teller: Teller, fault: Fault, language: str) -> Facet:
    """Why the run failed."""
    trace = {}
    if fault.error is not None and fault.error.traceback:
        trace["stackTrace"] = "\n".join(fault.error.traceback)[-MOST_TEXT:]
    return _facet(
        teller,
        "ErrorMessageRunFacet",
        message=fault.message[:MOST_TEXT],
        programmingLanguage=language,
        **trace,
    )


def tags(
    teller: Teller, marks: Sequence[str], cause: Cause | None, attempt: int, code: str | None
) -> Facet:
    """The marks that the run was given, and what no facet of OpenLineage has a place for."""
    own = {
        "cause": None if cause is None else cause.kind,
        "attempt": str(attempt) if attempt else None,
        "terminationCode": code,
    }
    told = [{"key": each, "value": "true", "source": "USER"} for each in marks]
    told += [
        {"key": key, "value": value, "source": "NBLEDGER"} for key, value in own.items() if value
    ]
    return _facet(teller, "TagsRunFacet", tags=told)


def job_type(teller: Teller) -> Facet:
    """That the job is a notebook, whose runs end."""
    return _facet(
        teller,
        "JobTypeJobFacet",
        processingType="BATCH",
        integration="NBLEDGER",
        jobType="NOTEBOOK",
        emissionPattern={"eventTrigger": "EVENT_BASED", "eventContentMode": "ACCUMULATIVE"},
    )


def source_code_location(teller: Teller, project: Project, notebook: PinnedNotebook) -> Facet:
    """Where the notebook can be read, and the version of it that the run executes."""
    path = project_path(project.tenant_id, project.project_id, "notebook", notebook.notebook_id)
    version = {} if notebook.version is None else {"version": notebook.version}
    return _facet(
        teller,
        "SourceCodeLocationJobFacet",
        type="nbledger",
        url=f"{teller.address}{path}",
        **version,
    )


def job_documentation(teller: Teller, notebook: PinnedNotebook) -> Facet:
    """What people call the notebook, and how they describe it."""
    told = ": ".join(filter(None, (notebook.name, notebook.description)))
    return _facet(teller, "DocumentationJobFacet", description=told[:MOST_TEXT])


def dataset_documentation(teller: Teller, name: str) -> Facet:
    """What people call the dataset."""
    return _facet(teller, "DocumentationDatasetFacet", description=name[:MOST_TEXT])


def dataset_version(teller: Teller, number: int) -> Facet:
    """Which version of the dataset it is."""
    return _facet(teller, "DatasetVersionDatasetFacet", datasetVersion=str(number))


def schema(teller: Teller, columns: Sequence[Column]) -> Facet:
    """The columns of the table."""
    fields = [
        {"name": each.name, "type": each.type, "ordinal_position": place}
        for place, each in enumerate(columns, start=1)
    ]
    return _facet(teller, "SchemaDatasetFacet", fields=fields)


def storage(teller: Teller) -> Facet:
    """How the table is kept."""
    return _facet(teller, "StorageDatasetFacet", storageLayer="nbledger", fileFormat="parquet")


def dataset_type(teller: Teller) -> Facet:
    """That it is a table."""
    return _facet(teller, "DatasetTypeDatasetFacet", datasetType="TABLE")


def lifecycle(teller: Teller, change: str) -> Facet:
    """What became of the dataset: CREATE, OVERWRITE or DROP."""
    return _facet(teller, "LifecycleStateChangeDatasetFacet", lifecycleStateChange=change)


def input_statistics(teller: Teller, content: DatasetVersion) -> Facet:
    """How much was given to the run."""
    return _facet(teller, "InputStatisticsInputDatasetFacet", **_statistics(content))


def output_statistics(teller: Teller, content: DatasetVersion) -> Facet:
    """How much the run wrote."""
    return _facet(teller, "OutputStatisticsOutputDatasetFacet", **_statistics(content))


def _statistics(content: DatasetVersion) -> dict[str, int]:
    return {"rowCount": content.rows, "size": content.content.size, "fileCount": 1}
