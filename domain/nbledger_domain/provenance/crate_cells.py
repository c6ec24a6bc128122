"""The notebook in an RO-Crate: the workflow with its parameters, and the cells as its steps."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from nbledger_domain.execution import Representation
from nbledger_domain.provenance import crate_files
from nbledger_domain.provenance.entities import Graph, reference, references, short
from nbledger_domain.provenance.facts import CellFacts, Provenance

NOTEBOOK: Final = "notebook.ipynb"
"""The path of the notebook."""

LANGUAGE: Final = "#jupyter-notebook"
KERNEL: Final = "#kernel"

COMPLETED: Final = "http://schema.org/CompletedActionStatus"
FAILED: Final = "http://schema.org/FailedActionStatus"
ACTIVE: Final = "http://schema.org/ActiveActionStatus"
POTENTIAL: Final = "http://schema.org/PotentialActionStatus"

_PROFILES: Final = "https://bioschemas.org/profiles"
_STATUSES: Final = {"Pending": POTENTIAL, "Running": ACTIVE, "Success": COMPLETED}


def code_cells(run: Provenance) -> list[CellFacts]:
    """The cells that a kernel gets."""
    return [each for each in run.cells if each.cell_type == "code"]


def add_parameters(graph: Graph, run: Provenance) -> list[str]:
    """The values of the parameters; returns their ids."""
    return [
        graph.add(
            _value_id(name),
            "PropertyValue",
            name=name,
            value=value if isinstance(value, str | int | float | bool) else _json(value),
            exampleOfWork=reference(_formal_id(name)),
        )
        for name, value in run.parameters.items()
    ]


def add_workflow(graph: Graph, run: Provenance, notebook: Representation | None) -> None:
    """The notebook; ``notebook`` is its file, where the crate comes with it."""
    for name, value in run.parameters.items():
        graph.add(
            _formal_id(name),
            "FormalParameter",
            name=name,
            additionalType=_schema_type(value),
            workExample=reference(_value_id(name)),
            conformsTo=reference(f"{_PROFILES}/FormalParameter/1.0-RELEASE"),
        )
    cells = code_cells(run)
    told = run.notebook
    graph.add(
        NOTEBOOK,
        ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
        name=told.name,
        description=told.description or None,
        version=told.version,
        identifier=f"{told.notebook_id}@{told.stream_version}",
        programmingLanguage=reference(LANGUAGE),
        conformsTo=reference(f"{_PROFILES}/ComputationalWorkflow/1.0-RELEASE"),
        input=[reference(_formal_id(name)) for name in run.parameters],
        hasPart=references(_tool_id(each) for each in cells),
        step=references(_step_id(each) for each in cells),
        disambiguatingDescription=f"SHA-256 of what its cells say: {told.digest}",
        **(
            {"encodingFormat": "application/x-ipynb+json"}
            if notebook is None
            else crate_files.told(notebook)
        ),
    )


def add_steps(
    graph: Graph, run: Provenance, *, agent: str, inputs: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Each code cell, what it did, and the order to do it; returns the ids of the latter two."""
    did, ordered = [], []
    for number, cell in enumerate(code_cells(run), 1):
        graph.add(
            _tool_id(cell),
            "SoftwareApplication",
            name=f"Cell {cell.cell_id}",
            description="A code cell of the notebook.",
            softwareVersion=run.notebook.version,
            softwareRequirements=reference(KERNEL),
        )
        graph.add(
            _step_id(cell),
            "HowToStep",
            name=cell.cell_id,
            position=str(number),
            workExample=reference(_tool_id(cell)),
        )
        status = _STATUSES.get(cell.status or "", FAILED)
        did.append(
            graph.add(
                f"#did-{short(cell.cell_id)}",
                "CreateAction",
                name=f"Execution of cell {cell.cell_id}",
                description=f"The cell ended with status {cell.status}.",
                instrument=reference(_tool_id(cell)),
                agent=reference(agent),
                startTime=cell.start_time,
                endTime=cell.end_time,
                actionStatus=status,
                error=cell.error if status == FAILED else None,
                object=references(inputs),
                result=references(crate_files.add_outputs(graph, cell)),
            )
        )
        ordered.append(
            graph.add(
                f"#control-{short(cell.cell_id)}",
                "ControlAction",
                name=f"Order to execute cell {cell.cell_id}",
                instrument=reference(_step_id(cell)),
                object=reference(did[-1]),
                actionStatus=COMPLETED,
            )
        )
    return did, ordered


def _tool_id(cell: CellFacts) -> str:
    return f"#cell-{short(cell.cell_id)}"


def _step_id(cell: CellFacts) -> str:
    return f"#step-{short(cell.cell_id)}"


def _formal_id(name: str) -> str:
    return f"#input-{short(name)}"


def _value_id(name: str) -> str:
    return f"#parameter-{short(name)}"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _schema_type(value: object) -> str:
    match value:
        case bool():
            return "Boolean"
        case int():
            return "Integer"
        case float():
            return "Float"
        case _:
            return "Text"
