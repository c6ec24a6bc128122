"""What became of changes to what notebooks are made of, as the API lists it."""

from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.automation import Trigger
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.folding import Fold
from nbledger_projections.machinery.parts_of_notebooks import PartsProjection
from nbledger_projections.machinery.read_model import ReadModel
from nbledger_projections.read_models.humanize import timestamp
from nbledger_projections.read_models.schedules import OutcomeDocument

NAME: Final = "trigger_list"


class TriggerDocument(msgspec.Struct, rename="camel", kw_only=True):
    """What became of so many `changes`; the newest of them was of this `kind`.

    `chains` are the notebooks whose runs led here, from the first cause on. `execution` is how the
    run is, where that is known.
    """

    trigger_id: UUID
    outcome: str
    kind: str
    changes: int
    decided_at: str
    reason: str | UnsetType = UNSET
    dataset_id: UUID | UnsetType = UNSET
    dataset_version: int | UnsetType = UNSET
    chains: list[list[UUID]] | UnsetType = UNSET
    execution_id: UUID | UnsetType = UNSET
    execution: OutcomeDocument | UnsetType = UNSET


class _Row(msgspec.Struct):
    """A row of the list."""

    trigger_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    position: int
    document: TriggerDocument


_decode_trigger = msgspec.json.Decoder(TriggerDocument).decode
_decode_outcome = msgspec.json.Decoder(OutcomeDocument).decode

_TRIGGERS: Final = """
SELECT t.document, s.document AS execution
FROM trigger_list AS t
LEFT JOIN execution_status AS s ON s.execution_id = t.execution_id
WHERE t.tenant_id = $1 AND t.project_id = $2 AND t.notebook_id = $3
ORDER BY t.position DESC LIMIT $4
"""


def _decided(recorded: RecordedEvent, event: Any) -> _Row:
    return _Row(
        trigger_id=recorded.stream_id,
        notebook_id=recorded.subject_id,
        tenant_id=recorded.tenant_id,
        project_id=recorded.project_id,
        position=recorded.position,
        document=TriggerDocument(
            trigger_id=recorded.stream_id,
            outcome=event.OUTCOME.value,
            kind=event.kind,
            changes=event.changes,
            decided_at=timestamp(recorded.occurred_at),
            reason=getattr(event, "reason", UNSET),
            dataset_id=event.dataset_id,
            dataset_version=event.dataset_version,
            chains=event.chains,
            execution_id=getattr(event, "execution_id", UNSET),
        ),
    )


def _execution_id(row: _Row) -> UUID | None:
    return row.document.execution_id or None


fold = Fold((Trigger.Started, Trigger.Skipped), _decided)


MODEL = ReadModel(
    NAME,
    _Row,
    key="trigger_id",
    key_of=attrgetter("stream_id"),
    fold=fold,
    computed={"execution_id": ("uuid", _execution_id)},
    projection=PartsProjection[_Row],
)


async def triggers(
    pool: Pool, tenant_id: UUID, project_id: UUID, notebook_id: UUID, *, limit: int
) -> list[TriggerDocument]:
    """What became of the last changes to what the notebook is made of, the newest first."""
    async with acquire(pool) as connection:
        rows = await connection.fetch(_TRIGGERS, tenant_id, project_id, notebook_id, limit)
    found: list[TriggerDocument] = []
    for row in rows:
        document = _decode_trigger(row["document"])
        if row["execution"] is not None:
            document.execution = _decode_outcome(row["execution"])
        found.append(document)
    return found
