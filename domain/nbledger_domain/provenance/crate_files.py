"""The files of a run in an RO-Crate: where they are in it, and how they are told there."""

from typing import Any, Final

from nbledger_domain.execution import Representation
from nbledger_domain.provenance.entities import Graph, named_file
from nbledger_domain.provenance.facts import ArtifactFacts, CellFacts, DatasetFacts, Provenance

_LONGEST_NAME: Final = 120

PACKAGES: Final = "environment/packages.txt"
"""The path of the list of all packages that the kernel could import."""


def paths(run: Provenance) -> dict[str, Representation]:
    """The files of the run by their paths in a crate that comes with them, the notebook aside."""
    found: dict[str, Representation] = {}
    for each in run.datasets:
        if each.content is not None:
            found[dataset_path(each)] = each.content
    for file in run.input_files:
        found[input_path(file.path)] = file.content
    if run.environment.resolved is not None:
        found[PACKAGES] = run.environment.resolved
    for cell in run.cells:
        for output in cell.outputs:
            for form in output.representations:
                found[output_path(form)] = form
    for artifact in run.artifacts:
        found[artifact_path(artifact)] = artifact.content
    return found


def dataset_path(dataset: DatasetFacts) -> str:
    """Of a version of a dataset."""
    return f"datasets/{dataset.dataset_id}/{dataset.version}.parquet"


def input_path(path: str) -> str:
    """Of an input file."""
    return f"inputs/{path}"


def output_path(form: Representation) -> str:
    """Of a form of an output: equal ones are one file."""
    return f"outputs/{form.digest}"


def artifact_path(artifact: ArtifactFacts) -> str:
    """Of a file that the run handed back; of one name there may be several."""
    return f"results/{artifact.content.digest[:16]}/{_plain(artifact.file_name)}"


def _plain(name: str) -> str:
    """A name that is a file's wherever it is unpacked: what a notebook chose may be anything."""
    kept = "".join(each if each.isalnum() or each in " -_.()" else "_" for each in name)
    return kept.strip(" .")[:_LONGEST_NAME] or "file"


def told(content: Representation) -> dict[str, Any]:
    """What is told of any file."""
    return {
        "encodingFormat": content.content_type,
        "contentSize": str(content.size),
        "sha256": content.digest,
    }


def add_file(graph: Graph, path: str, content: Representation, **members: Any) -> str:
    """Add a file; returns its id."""
    return graph.add(named_file(path), "File", **told(content), **members)


def add_datasets(graph: Graph, run: Provenance) -> list[str]:
    """The dataset versions that the run was given; what is deleted has no file any more."""
    found = []
    for each in run.datasets:
        version = None if each.version is None else str(each.version)
        if each.content is None:
            found.append(
                graph.add(
                    f"#dataset-{each.dataset_id}-{version}",
                    "CreativeWork",
                    name=f"Dataset {each.dataset_id}, which is not there any more",
                    identifier=str(each.dataset_id),
                    version=version,
                )
            )
            continue
        found.append(
            add_file(
                graph,
                dataset_path(each),
                each.content,
                name=f"{each.name}, version {version}",
                identifier=str(each.dataset_id),
                version=version,
            )
        )
    return found


def add_input_files(graph: Graph, run: Provenance) -> list[str]:
    """The input files beside the notebook."""
    return [
        add_file(graph, input_path(each.path), each.content, name=each.path)
        for each in run.input_files
    ]


def add_artifacts(graph: Graph, run: Provenance) -> list[str]:
    """The files that the run handed back."""
    return [
        add_file(
            graph,
            artifact_path(each),
            each.content,
            name=each.name,
            description=f"A {each.kind} that the run handed back.",
        )
        for each in run.artifacts
    ]


def add_outputs(graph: Graph, cell: CellFacts) -> list[str]:
    """The outputs of a cell, in all their forms."""
    return [
        add_file(
            graph, output_path(form), form, name=f"{output.output_type} of cell {cell.cell_id}"
        )
        for output in cell.outputs
        for form in output.representations
    ]
