"""The states that are published: which documents, and how they are read."""

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from nbledger_domain.vocabulary.addresses import project_path
from nbledger_infrastructure.kafka.messages import MAX_DATA_BYTES
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_projections.machinery import quantities
from nbledger_projections.read_models import dataset_details
from nbledger_projections.read_models.executions import status as execution_status
from nbledger_projections.read_models.executions.documents import ExecutionDocument
from nbledger_projections.read_models.notebooks import details as notebook_details

NOTEBOOK: Final = "notebook"
EXECUTION: Final = "execution"
DATASET: Final = "dataset"

# A document that no record can carry is not read, either.
_TEXT: Final = f"""
    CASE WHEN octet_length(d.document::text) <= {MAX_DATA_BYTES} THEN d.document::text END
"""

_NOTEBOOKS: Final = f"""
SELECT d.notebook_id, d.tenant_id, d.project_id, d.notebook_id, d.position, d.modified_at, {_TEXT}
FROM notebook_details AS d WHERE NOT d.deletion_requested AND d.notebook_id
"""  # noqa: S608 (constants)

# A deletion acts on executions, too, as soon as it is asked for.
_EXECUTIONS: Final = f"""
SELECT d.execution_id, d.tenant_id, d.project_id, d.notebook_id, d.position, d.updated_at, {_TEXT}
FROM execution_status AS d JOIN notebook_details AS n ON n.notebook_id = d.notebook_id
WHERE NOT n.deletion_requested AND d.execution_id
"""  # noqa: S608 (constants)

_DATASETS: Final = f"""
SELECT d.dataset_id, d.tenant_id, d.project_id, d.dataset_id, d.position, d.modified_at, {_TEXT}
FROM dataset_details AS d WHERE d.dataset_id
"""  # noqa: S608 (constants)

_decode_execution = quantities.decoder(ExecutionDocument).decode


class Found(msgspec.Struct, frozen=True, array_like=True):
    """A document in a read model; no text where it is too large."""

    id: UUID
    tenant_id: UUID
    project_id: UUID
    subject_id: UUID
    position: int
    at: Any
    text: str | None


def _as_stored(text: str) -> bytes:
    return text.encode()


def _in_words(text: str) -> bytes:
    return quantities.encode_in_words(_decode_execution(text))


class StateKind(msgspec.Struct, frozen=True, kw_only=True):
    """Documents of one kind, which events of the types that begin with it change.

    ``model`` is the read model that has them. ``select`` reads them, up to the name of their key.
    ``document`` makes what is published of what is stored.
    """

    kind: str
    model: str
    select: str
    document: Callable[[str], bytes] = _as_stored

    @property
    def topic(self) -> str:
        """The name of its topic, after the prefix."""
        return f"{self.kind}-state"

    @property
    def type(self) -> str:
        """The type of its records, after the prefix."""
        return f"{self.kind}-state.v1"

    @property
    def subject_kind(self) -> str:
        """What its events concern."""
        return NOTEBOOK if self.kind == EXECUTION else self.kind

    def path(self, tenant_id: UUID, project_id: UUID, subject_id: UUID, document_id: UUID) -> str:
        """Where the API answers with such a document."""
        below: tuple[object, ...] = (self.subject_kind, subject_id)
        if self.kind == EXECUTION:
            below = (*below, EXECUTION, document_id)
        return project_path(tenant_id, project_id, *below)

    async def read(self, connection: PooledConnection, ids: Sequence[UUID]) -> list[Found]:
        """Those of ``ids`` that are there."""
        return [Found(*row) for row in await connection.fetch(f"{self.select} = ANY($1)", ids)]

    async def page(self, connection: PooledConnection, after: UUID, limit: int) -> list[Found]:
        """The next ones in the order of their ids."""
        statement = f"{self.select} > $1 ORDER BY 1 LIMIT $2"
        return [Found(*row) for row in await connection.fetch(statement, after, limit)]


STATES: Final = (
    StateKind(kind=NOTEBOOK, model=notebook_details.NAME, select=_NOTEBOOKS.rstrip()),
    StateKind(
        kind=EXECUTION,
        model=execution_status.NAME,
        select=_EXECUTIONS.rstrip(),
        document=_in_words,
    ),
    StateKind(kind=DATASET, model=dataset_details.NAME, select=_DATASETS.rstrip()),
)
"""All of them, each in a topic of its own."""

MODELS: Final = tuple(each.model for each in STATES)
"""The read models that they are made of, in the order in which a transaction reads them."""
