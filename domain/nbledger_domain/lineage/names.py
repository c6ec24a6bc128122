"""What jobs and datasets are called, and by which keys their documents stay in order."""

from typing import Final
from uuid import UUID

from nbledger_domain.lineage.facts import LineageRun, PinnedNotebook, Project, Teller, VersionFacts

MOST_CHARACTERS: Final = 200
"""Of a readable name; receivers bound the length of names."""


def namespace(teller: Teller, project: Project) -> str:
    """The namespace of a project's notebooks and datasets."""
    return f"{teller.namespace}/{project.tenant_id}/{project.project_id}"


def job(teller: Teller, project: Project, notebook: PinnedNotebook) -> dict[str, str]:
    """The job that a notebook is."""
    name = _name(teller, notebook.notebook_id, notebook.name)
    return {"namespace": namespace(teller, project), "name": name}


def dataset(teller: Teller, project: Project, version: VersionFacts) -> dict[str, str]:
    """The dataset that versions are of."""
    name = _name(teller, version.dataset_id, version.name)
    return {"namespace": namespace(teller, project), "name": name}


def run_key(teller: Teller, facts: LineageRun) -> str:
    """The key of a run's documents on Kafka: as OpenLineage's own clients have it, by the job.

    A run that has a parent goes by the first of those that led to it.
    """
    by_first = facts.repeats and teller.parents
    notebook = facts.repeats[-1].notebook if by_first else facts.notebook
    told = job(teller, facts.project, notebook)
    return f"run:{told['namespace']}/{told['name']}"


def dataset_key(teller: Teller, project: Project, version: VersionFacts) -> str:
    """The key of a dataset's documents on Kafka."""
    told = dataset(teller, project, version)
    return f"dataset:{told['namespace']}/{told['name']}"


def _name(teller: Teller, thing_id: UUID, name: str | None) -> str:
    if not teller.readable or name is None:
        return str(thing_id)
    # Names are neither unique nor free of line feeds. The end of an id is its random part.
    words = " ".join(name.split())
    return f"{words[:MOST_CHARACTERS]} ({thing_id.hex[-8:]})"
