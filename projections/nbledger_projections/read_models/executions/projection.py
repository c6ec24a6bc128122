"""What both read models of executions have in common: how their rows go, and how one is read."""

from typing import Protocol, TypeVar
from uuid import UUID

from nbledger_domain.execution import TERMINAL_EVENTS
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.decoding import DELETED
from nbledger_projections.machinery.parts_of_notebooks import PartsProjection


class OfNotebook(Protocol):
    """A row of an execution."""

    notebook_id: UUID


E = TypeVar("E", bound=OfNotebook)

_ENDS = frozenset(event.TYPE for event in TERMINAL_EVENTS)

_NOTEBOOK_EXISTS = f"""
    (SELECT type FROM event WHERE stream_id = $3 ORDER BY version DESC LIMIT 1)
        NOT IN ('{DELETED}', '{Notebook.DeletionRequested.TYPE}')
"""  # noqa: S608 (constants)
"""Of notebook $3: a deletion acts as soon as it is asked for."""

ROW = f"""
    execution_id = $4 AND notebook_id = $3 AND tenant_id = $1 AND project_id = $2
    AND {_NOTEBOOK_EXISTS}
"""
"""Condition for the row of execution $4 of notebook $3 in tenant $1 and project $2."""

EVENTS = f"""
    e.stream_id = $4 AND e.subject_id = $3 AND e.tenant_id = $1 AND e.project_id = $2
    AND e.stream_id <> e.subject_id AND e.version > coalesce(d.version, 0) AND {_NOTEBOOK_EXISTS}
"""
"""Condition for the events to fold onto it."""


class ExecutionsProjection(PartsProjection[E]):
    """Keeps rows of executions, which go with their notebook; few are of use once they ended."""

    def _tell(self, recorded: RecordedEvent) -> None:
        super()._tell(recorded)
        if recorded.type in _ENDS:
            self._rows.let_go(recorded.stream_id)
