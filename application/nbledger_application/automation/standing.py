"""How it stands with the automatic execution of a notebook."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from nbledger_application.automation.folding import BUSY
from nbledger_application.automation.rows import AutomationRow, TriggerRow, load
from nbledger_domain.automation import changes
from nbledger_infrastructure.postgres.database import Pool, acquire

WaitReason = Literal["quiet", "interval", "run", "queue"]


class Gathering(msgspec.Struct, frozen=True):
    """Changes that wait to become a run, since the first of them, and what for.

    ``due_at`` is ``None`` while an automatic run of the notebook goes on.
    """

    trigger_id: UUID
    changes: int
    since: datetime
    due_at: datetime | None
    waits_for: WaitReason


class AutomationStanding(msgspec.Struct, frozen=True):
    """Who switched it on, the run that goes on, and what is gathered."""

    set_by: str
    running: UUID | None
    gathering: Gathering | None


async def standing(pool: Pool, notebook_id: UUID) -> AutomationStanding | None:
    """As of moments ago; ``None`` where it is off, or was switched on just now."""
    async with acquire(pool) as connection:
        rows, triggers = await load(connection, [notebook_id], [])
    if not rows:
        return None
    busy = [each.execution_id for each in triggers if each.state in BUSY]
    gathering = [_gathering(rows[0], each) for each in triggers if each.state == "gathering"]
    return AutomationStanding(
        rows[0].set_by, busy[0] if busy else None, gathering[0] if gathering else None
    )


def _gathering(row: AutomationRow, trigger: TriggerRow) -> Gathering:
    reason: WaitReason = "quiet"
    if trigger.due_at is None:
        reason = "run"
    elif trigger.held:
        reason = "queue"
    elif trigger.due_at > changes.quiet_at(trigger.changes, row.settings):
        reason = "interval"
    return Gathering(
        trigger_id=trigger.trigger_id,
        changes=changes.count(trigger.changes),
        since=min(change.first_at for change in trigger.changes),
        due_at=trigger.due_at,
        waits_for=reason,
    )
