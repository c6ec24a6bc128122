"""Documents of OpenLineage 2-0-2: the state of a run, and a version of a dataset."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from nbledger_domain.execution import Execution
from nbledger_domain.lineage import facets, names
from nbledger_domain.lineage.facts import (
    Document,
    LineageRun,
    Project,
    RunState,
    Teller,
    VersionFacts,
)

SPECIFICATION: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json"

STATES: Final[Mapping[str, RunState]] = {
    Execution.Claimed.TYPE: "START",
    Execution.DatasetsGiven.TYPE: "RUNNING",
    Execution.Completed.TYPE: "COMPLETE",
    Execution.Failed.TYPE: "FAIL",
    Execution.TimedOut.TYPE: "FAIL",
    Execution.KernelDied.TYPE: "FAIL",
    Execution.Cancelled.TYPE: "ABORT",
}
"""Events of a run that are told, each with the state that the run comes to.

A run that begins anew is claimed again: it goes on ``RUNNING``.
"""


def run_event(teller: Teller, state: RunState, facts: LineageRun, at: datetime) -> Document:
    """The state that a run has come to."""
    told = _event(teller, "RunEvent", at) | {
        "eventType": state,
        "run": {"runId": str(facts.run_id), "facets": _run_facets(teller, state, facts)},
        "job": {
            **names.job(teller, facts.project, facts.notebook),
            "facets": _job_facets(teller, facts),
        },
        "inputs": [_input(teller, facts.project, each) for each in facts.inputs],
        "outputs": [_output(teller, facts.project, each) for each in facts.outputs],
    }
    return Document(names.run_key(teller, facts), at, told)


def dataset_event(
    teller: Teller, project: Project, version: VersionFacts, at: datetime
) -> Document:
    """A version that a dataset has got."""
    told = _event(teller, "DatasetEvent", at) | {"dataset": _written(teller, project, version)}
    return Document(names.dataset_key(teller, project, version), at, told)


def dropped_event(
    teller: Teller, project: Project, version: VersionFacts, at: datetime
) -> Document:
    """That a dataset is gone."""
    dataset = names.dataset(teller, project, version)
    told = _event(teller, "DatasetEvent", at) | {
        "dataset": {
            **dataset,
            "facets": {"lifecycleStateChange": facets.lifecycle(teller, "DROP")},
        }
    }
    return Document(names.dataset_key(teller, project, version), at, told)


def _event(teller: Teller, kind: str, at: datetime) -> dict[str, Any]:
    return {
        "eventTime": facets.time(at),
        "producer": facets.producer(teller),
        "schemaURL": f"{SPECIFICATION}#/$defs/{kind}",
    }


def _run_facets(teller: Teller, state: RunState, facts: LineageRun) -> dict[str, Any]:
    told: dict[str, Any] = {
        "tags": facets.tags(teller, facts.tags, facts.cause, facts.attempt, facts.termination_code)
    }
    if facts.cause is not None and facts.cause.due_at is not None:
        told["nominalTime"] = facets.nominal_time(teller, facts.cause.due_at)
    if facts.upstream is not None:
        told["jobDependencies"] = facets.dependencies(teller, facts.project, facts.upstream)
    if facts.repeats and teller.parents:
        told["parent"] = facets.parent(teller, facts.project, facts.repeats)
    if facts.engine is not None:
        told["processing_engine"] = facets.engine(teller, facts.engine)
    if state == "FAIL" and facts.fault is not None:
        language = "unknown" if facts.engine is None else facts.engine.language
        told["errorMessage"] = facets.error_message(teller, facts.fault, language)
    return told


def _job_facets(teller: Teller, facts: LineageRun) -> dict[str, Any]:
    told = {
        "jobType": facets.job_type(teller),
        "sourceCodeLocation": facets.source_code_location(teller, facts.project, facts.notebook),
    }
    if facts.notebook.name is not None:
        told["documentation"] = facets.job_documentation(teller, facts.notebook)
    return told


def _dataset(teller: Teller, project: Project, version: VersionFacts) -> dict[str, Any]:
    told = {
        "version": facets.dataset_version(teller, version.number),
        "datasetType": facets.dataset_type(teller),
        "storage": facets.storage(teller),
    }
    if version.name is not None:
        told["documentation"] = facets.dataset_documentation(teller, version.name)
    if version.content is not None:
        told["schema"] = facets.schema(teller, version.content.columns)
    return {**names.dataset(teller, project, version), "facets": told}


def _written(teller: Teller, project: Project, version: VersionFacts) -> dict[str, Any]:
    told = _dataset(teller, project, version)
    change = "CREATE" if version.number == 1 else "OVERWRITE"
    told["facets"]["lifecycleStateChange"] = facets.lifecycle(teller, change)
    return told


def _input(teller: Teller, project: Project, version: VersionFacts) -> dict[str, Any]:
    told = _dataset(teller, project, version)
    if version.content is not None:
        statistics = facets.input_statistics(teller, version.content)
        told["inputFacets"] = {"inputStatistics": statistics}
    return told


def _output(teller: Teller, project: Project, version: VersionFacts) -> dict[str, Any]:
    told = _written(teller, project, version)
    if version.content is not None:
        statistics = facets.output_statistics(teller, version.content)
        told["outputFacets"] = {"outputStatistics": statistics}
    return told
