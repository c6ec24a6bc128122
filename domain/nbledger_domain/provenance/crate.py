"""The provenance of a run as an RO-Crate: the JSON-LD of ``ro-crate-metadata.json``.

The profile is Provenance Run Crate 0.5, on RO-Crate 1.1. The notebook is the workflow and each code
cell a step of it; the run is a CreateAction whose instrument is the notebook, and so is what each
cell did; nbledger is the engine, whose OrganizeAction has brought it about. A file is a File with
its SHA-256, whether the crate comes with its bytes or not.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from nbledger_domain.execution import Cause, Representation
from nbledger_domain.provenance import crate_cells, crate_files
from nbledger_domain.provenance.crate_cells import ACTIVE, COMPLETED, FAILED, KERNEL, NOTEBOOK
from nbledger_domain.provenance.entities import Graph, reference, references, short
from nbledger_domain.provenance.facts import Provenance

METADATA_FILE: Final = "ro-crate-metadata.json"

CONTEXT: Final = (
    "https://w3id.org/ro/crate/1.1/context",
    "https://w3id.org/ro/terms/workflow-run/context",
)

SPECIFICATION: Final = "https://w3id.org/ro/crate/1.1"
_WORKFLOW_CRATE: Final = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"

PROFILES: Final = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    _WORKFLOW_CRATE: ("Workflow RO-Crate", "1.0"),
}
"""The profiles that a crate conforms to, by their versioned permalinks: name and version."""

_ENGINE: Final = "#nbledger"
_LICENSE: Final = "#license"
_JUPYTER: Final = "https://jupyter.org/"
_STATUSES: Final = {"Completed": COMPLETED, "Running": ACTIVE}
_UNITS: Final = "https://qudt.org/vocab/unit"


def ro_crate(
    run: Provenance, *, address: str, at: datetime, notebook: Representation | None = None
) -> dict[str, Any]:
    """The document of a run. ``address`` is that of the execution, ``at`` when this is made.

    ``notebook`` is the file of the notebook as it ran, where the crate comes with it, at the path
    ``crate_cells.NOTEBOOK``. The other files have the paths of ``crate_files.paths``.
    """
    graph = Graph()
    agent = f"#agent-{short(run.requested_by_id)}"
    _add_root(graph, run, address, at, agent)
    _add_software(graph, run)
    graph.add(agent, "Person", name=run.requested_by, identifier=run.requested_by_id)
    inputs = [
        *crate_files.add_datasets(graph, run),
        *crate_files.add_input_files(graph, run),
        *crate_cells.add_parameters(graph, run),
    ]
    results = crate_files.add_artifacts(graph, run)
    crate_cells.add_workflow(graph, run, notebook)
    did, ordered = crate_cells.add_steps(graph, run, agent=agent, inputs=inputs)
    action = _add_run(graph, run, address=address, agent=agent, inputs=inputs, results=results)
    _add_engine_action(graph, run, agent, ordered, action)
    entries = _add_log_entries(graph, run)
    graph.complete_root(mentions=[action, *did, *entries])
    return {"@context": list(CONTEXT), "@graph": graph.entities()}


def _add_root(graph: Graph, run: Provenance, address: str, at: datetime, agent: str) -> None:
    graph.add(
        METADATA_FILE,
        "CreativeWork",
        about=reference("./"),
        conformsTo=references([SPECIFICATION, _WORKFLOW_CRATE]),
    )
    graph.add(
        "./",
        "Dataset",
        name=f"Run of {run.notebook.name}",
        description=f"How the result of execution {run.execution_id} of the notebook "
        f"{run.notebook.name!r}, version {run.notebook.version}, came about.",
        datePublished=at,
        license=reference(_LICENSE),
        author=reference(agent),
        identifier=str(run.execution_id),
        url=address,
        conformsTo=references(PROFILES),
        mainEntity=reference(NOTEBOOK),
    )
    for link, (name, version) in PROFILES.items():
        graph.add(link, "CreativeWork", name=name, version=version)
    graph.add(
        _LICENSE,
        "CreativeWork",
        name="Not stated",
        description="What is in here is whoever's the notebook is; the service knows no license.",
    )


def _add_software(graph: Graph, run: Provenance) -> None:
    graph.add(
        crate_cells.LANGUAGE,
        "ComputerLanguage",
        name="Jupyter Notebook",
        identifier=reference(_JUPYTER),
        url=reference(_JUPYTER),
    )
    graph.add(_JUPYTER, "WebSite", name="Project Jupyter")
    graph.add(
        _ENGINE,
        "SoftwareApplication",
        name="nbledger",
        description="The service that had the notebook executed, and recorded it.",
    )
    kernel = run.kernel
    language = [each for each in (kernel.language, kernel.language_version) if each]
    graph.add(
        KERNEL,
        "SoftwareApplication",
        name=kernel.implementation or kernel.kernelspec or kernel.kernel_type,
        description=f"The kernel, of type {kernel.kernel_type}, that executed the cells.",
        softwareVersion=kernel.implementation_version,
        runtimePlatform=" ".join(language) or None,
        softwareRequirements=references(
            _add_package(graph, each) for each in run.environment.provided or ()
        ),
    )


def _add_package(graph: Graph, text: str) -> str:
    name, _, version = text.partition("==")
    return graph.add(
        f"#package-{short(text)}", "SoftwareApplication", name=name, softwareVersion=version or None
    )


def _add_run(
    graph: Graph,
    run: Provenance,
    *,
    address: str,
    agent: str,
    inputs: Sequence[str],
    results: Sequence[str],
) -> str:
    """What the run did, from all that it was given to all that it put out; returns its id."""
    outputs = [
        each
        for cell in crate_cells.code_cells(run)
        for each in crate_files.add_outputs(graph, cell)
    ]
    resolved = run.environment.resolved
    environment = (
        []
        if resolved is None
        else [
            crate_files.add_file(
                graph,
                crate_files.PACKAGES,
                resolved,
                name="All packages that the kernel could import",
            )
        ]
    )
    status = _STATUSES.get(run.status, FAILED)
    return graph.add(
        f"#run-{run.execution_id}",
        "CreateAction",
        name=f"Execution {run.execution_id}",
        identifier=str(run.execution_id),
        url=address,
        description=_why(run.cause),
        instrument=reference(NOTEBOOK),
        agent=reference(agent),
        startTime=run.start_time,
        endTime=run.end_time,
        actionStatus=status,
        error=run.termination_code if status == FAILED else None,
        object=references([*inputs, *environment]),
        # One output may be put out by several cells.
        result=references(dict.fromkeys([*results, *outputs])),
        resourceUsage=references(_add_usage(graph, run)),
    )


def _add_usage(graph: Graph, run: Provenance) -> list[str]:
    used: list[tuple[str, float | None, str]] = [
        ("peakMemoryBytes", run.resources.peak_memory_bytes, "BYTE"),
        ("cpuSeconds", run.resources.cpu_seconds, "SEC"),
        ("diskBytes", run.resources.disk_bytes, "BYTE"),
    ]
    return [
        graph.add(
            f"#usage-{name}",
            "PropertyValue",
            name=name,
            propertyID=f"urn:nbledger:resource:{name}",
            unitCode=f"{_UNITS}/{unit}",
            value=str(value),
        )
        for name, value, unit in used
        if value is not None
    ]


def _add_engine_action(
    graph: Graph, run: Provenance, agent: str, ordered: Sequence[str], action: str
) -> None:
    if not ordered:
        return
    described = "No worker has taken it."
    if run.attempts:
        last = run.attempts[-1]
        described = f"Attempt {last.attempt}, by worker {last.worker_id}."
    graph.add(
        "#organize",
        "OrganizeAction",
        name=f"Execution {run.execution_id}, by nbledger",
        description=described,
        instrument=reference(_ENGINE),
        agent=reference(agent),
        startTime=run.requested_at,
        endTime=run.end_time,
        object=references(ordered),
        result=reference(action),
        actionStatus=_STATUSES.get(run.status, FAILED),
    )


def _add_log_entries(graph: Graph, run: Provenance) -> list[str]:
    """Where the run is in the tenant's transparency log; returns the ids."""
    log = run.log
    if log is None:
        return []
    return [
        graph.add(
            f"#log-{name}",
            "PropertyValue",
            name=f"Number, in the transparency log, of the {name} event of the run",
            propertyID=log.origin,
            value=str(number),
        )
        for name, number in (("first", log.requested), ("last", log.last))
        if number is not None
    ]


def _why(cause: Cause) -> str:
    told = {name: value for name, value in msgspec.to_builtins(cause).items() if name != "kind"}
    members = ", ".join(f"{name} {value}" for name, value in told.items())
    return f"Cause: {cause.kind}" + (f" ({members})" if members else "")
