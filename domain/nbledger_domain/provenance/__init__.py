"""Provenance: of what, by what and how a result came about, as facts and as an RO-Crate."""

from nbledger_domain.provenance.crate import METADATA_FILE, ro_crate
from nbledger_domain.provenance.crate_cells import NOTEBOOK
from nbledger_domain.provenance.crate_files import paths
from nbledger_domain.provenance.facts import (
    ArtifactFacts,
    AttemptFacts,
    CellFacts,
    DatasetFacts,
    EnvironmentFacts,
    ExecutedKernel,
    InputFacts,
    LogFacts,
    NotebookFacts,
    OutputFacts,
    Provenance,
    RepeatedRun,
    notebook_digest,
)

__all__ = [
    "METADATA_FILE",
    "NOTEBOOK",
    "ArtifactFacts",
    "AttemptFacts",
    "CellFacts",
    "DatasetFacts",
    "EnvironmentFacts",
    "ExecutedKernel",
    "InputFacts",
    "LogFacts",
    "NotebookFacts",
    "OutputFacts",
    "Provenance",
    "RepeatedRun",
    "notebook_digest",
    "paths",
    "ro_crate",
]
