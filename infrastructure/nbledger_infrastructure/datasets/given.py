"""Which versions of datasets a run was given."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from nbledger_domain.dataset import Dataset
from nbledger_domain.execution import Execution
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent, Stream


async def versions_given(
    store: EventStore, stream: Stream, execution: Execution, dataset_ids: Iterable[UUID]
) -> dict[UUID, int | None] | None:
    """The versions of these datasets that ``execution``, whose stream this is, was given.

    One that the project did not hold is not among them; ``None`` stands for one that cannot be
    told. ``None`` as a whole: the run ended before it was given anything.

    Newer runs have recorded it. For the others it follows from the positions of events: they read
    the newest version between their claim and their first cell, which is certain unless another
    version came just then. Raises ``DatabaseUnavailableError``.
    """
    if execution.given is not None:
        return {each: execution.given[each] for each in dataset_ids if each in execution.given}
    span = _reading(await store.read_stream(execution.id))
    if span is None:
        return None
    found: dict[UUID, int | None] = {}
    for dataset_id in dataset_ids:
        history = await store.read_stream(dataset_id)
        if not history or (history[0].tenant_id, history[0].project_id) != (
            stream.tenant_id,
            stream.project_id,
        ):
            continue
        first, last = (_version_at(history, position) for position in span)
        if first != last:
            found[dataset_id] = None
        elif first:
            found[dataset_id] = first
    return found


def _reading(history: Sequence[RecordedEvent]) -> tuple[int, int] | None:
    """The positions between which the last attempt that came to its cells read its datasets."""
    claimed, span = 0, None
    for recorded in history:
        if recorded.type == Execution.Claimed.TYPE:
            claimed = recorded.position
        elif recorded.type == Execution.CellStarted.TYPE and (span is None or span[0] != claimed):
            span = (claimed, recorded.position)
    return span


def _version_at(history: Sequence[RecordedEvent], position: int) -> int:
    """The newest version before a position; 0 where there was none, or the dataset was deleted."""
    version = 0
    for recorded in history:
        if recorded.position > position:
            break
        if recorded.type == Dataset.VersionAdded.TYPE:
            version += 1
        elif recorded.type == Dataset.Deleted.TYPE:
            version = 0
    return version
