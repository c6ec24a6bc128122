"""Taking recorded events apart for the folds."""

from nbledger_domain.events import UnknownEventTypeError, type_registry
from nbledger_domain.execution import Execution
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.event_store import RecordedEvent

CREATED = Notebook.Created.TYPE
DELETED = Notebook.Deleted.TYPE
REQUESTED = Execution.Requested.TYPE


def check_known(recorded: RecordedEvent) -> None:
    """Raise :class:`UnknownEventTypeError` for a type that this software does not know."""
    if recorded.type not in type_registry:
        raise UnknownEventTypeError(f"{recorded.type} at position {recorded.position}")


def is_execution(recorded: RecordedEvent) -> bool:
    """Whether the event is of an execution, not of the notebook itself."""
    return recorded.stream_id != recorded.subject_id
