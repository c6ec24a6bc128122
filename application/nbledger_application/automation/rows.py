"""What is kept of notebooks that run by themselves, and of triggers that are not over."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from nbledger_domain.automation import AutomationSettings, SkipReason, TriggeringChange
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import Stream

TriggerState = Literal["gathering", "skipping", "starting", "running"]

_decode_settings = msgspec.json.Decoder(AutomationSettings).decode
_decode_changes = msgspec.json.Decoder(list[TriggeringChange]).decode
_encode = msgspec.json.Encoder().encode


class AutomationRow(msgspec.Struct):
    """A row of table ``automation``: a notebook whose ``autoExecution`` is on.

    ``started_at`` is when its last trigger started a run.
    """

    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    settings: AutomationSettings
    set_by: str
    dataset_id: UUID | None
    started_at: datetime | None = None


class TriggerRow(msgspec.Struct):
    """A row of table ``automation_trigger``.

    While it gathers, ``due_at`` is when it becomes a run; without one it waits for the run before
    it. ``held`` is whether it was put off, as too many runs wait.
    """

    trigger_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    set_by: str
    state: TriggerState
    changes: list[TriggeringChange]
    execution_id: UUID
    reason: SkipReason | None = None
    due_at: datetime | None = None
    held: bool = False
    notebook_version: int | None = None

    def stream(self, stream_id: UUID) -> Stream:
        """A stream that concerns its notebook."""
        return Stream(stream_id, self.notebook_id, self.tenant_id, self.project_id)


AUTOMATION = ", ".join(AutomationRow.__struct_fields__)
"""The columns of table ``automation``, in the order that :func:`automation_row` takes them."""

TRIGGER = ", ".join(TriggerRow.__struct_fields__)
"""The columns of table ``automation_trigger``, in the order that :func:`trigger_row` takes them."""

_LOAD = f"""
SELECT {AUTOMATION} FROM automation WHERE notebook_id = ANY($1) OR dataset_id = ANY($2)
"""  # noqa: S608 (constants)

_LOAD_TRIGGERS = f"""
SELECT {TRIGGER} FROM automation_trigger WHERE notebook_id = ANY($1)
"""  # noqa: S608 (constants)

_SAVE = f"""
INSERT INTO automation ({AUTOMATION})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::json[], $5::text[], $6::uuid[], $7::timestamptz[]
)
ON CONFLICT (notebook_id) DO UPDATE SET
    settings = excluded.settings, set_by = excluded.set_by, dataset_id = excluded.dataset_id,
    started_at = excluded.started_at
"""  # noqa: S608 (constants)

_SAVE_TRIGGERS = f"""
INSERT INTO automation_trigger ({TRIGGER})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::json[],
    $8::uuid[], $9::text[], $10::timestamptz[], $11::boolean[], $12::integer[]
)
ON CONFLICT (trigger_id) DO UPDATE SET
    state = excluded.state, changes = excluded.changes, reason = excluded.reason,
    due_at = excluded.due_at, held = excluded.held, notebook_version = excluded.notebook_version
"""  # noqa: S608 (constants)


def automation_row(row: asyncpg.Record) -> AutomationRow:
    """A row that was selected with ``AUTOMATION``."""
    values = dict(zip(AutomationRow.__struct_fields__, row, strict=True))
    values["settings"] = _decode_settings(values["settings"])
    return AutomationRow(**values)


def trigger_row(row: asyncpg.Record) -> TriggerRow:
    """A row that was selected with ``TRIGGER``."""
    values = dict(zip(TriggerRow.__struct_fields__, row, strict=True))
    values["changes"] = _decode_changes(values["changes"])
    return TriggerRow(**values)


async def load(
    connection: PooledConnection, notebook_ids: Iterable[UUID], dataset_ids: Iterable[UUID]
) -> tuple[list[AutomationRow], list[TriggerRow]]:
    """The rows of these notebooks, and of those that are bound to these datasets."""
    notebooks = set(notebook_ids)
    found = await connection.fetch(_LOAD, list(notebooks), list(dataset_ids))
    rows = [automation_row(row) for row in found]
    notebooks |= {row.notebook_id for row in rows}
    found = await connection.fetch(_LOAD_TRIGGERS, list(notebooks))
    return rows, [trigger_row(row) for row in found]


async def save(
    connection: PooledConnection,
    rows: Sequence[AutomationRow],
    triggers: Sequence[TriggerRow],
    *,
    off: Sequence[UUID],
    over: Sequence[UUID],
) -> None:
    """Write these rows; remove notebooks that are ``off``, and triggers that are ``over``."""
    if off:
        await connection.execute("DELETE FROM automation WHERE notebook_id = ANY($1)", off)
    if over:
        await connection.execute("DELETE FROM automation_trigger WHERE trigger_id = ANY($1)", over)
    if rows:
        await connection.execute(_SAVE, *_columns(rows, AutomationRow.__struct_fields__))
    if triggers:
        await connection.execute(_SAVE_TRIGGERS, *_columns(triggers, TriggerRow.__struct_fields__))


def _columns(rows: Sequence[object], names: Iterable[str]) -> list[list[object]]:
    return [[_plain(getattr(row, name)) for row in rows] for name in names]


def _plain(value: object) -> object:
    if isinstance(value, AutomationSettings | list):
        return _encode(value).decode()
    return value
