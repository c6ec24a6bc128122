"""How far followers of the events have come is told, however few events concern them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from uuid import UUID

import pytest
from support.stories import begin, record, request

from nbledger_application import following
from nbledger_application.actions import manager
from nbledger_application.actions.manager import ActionsManager
from nbledger_application.following import Following, Interests
from nbledger_infrastructure.postgres.database import Pool, PooledConnection
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_infrastructure.settings import Settings
from nbledger_projections.status import status

TENANT = UUID(int=5)


class Unconcerned:
    async def prepare(self, batch: Sequence[RecordedEvent]) -> None:
        raise AssertionError(batch)

    async def fold(self, connection: PooledConnection, batch: Sequence[RecordedEvent]) -> None:
        raise AssertionError(connection, batch)


async def test_followers_at_rest_show_no_lag(
    pool: Pool, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(1)
    story = begin(dice, tenant_id=TENANT, project_id=TENANT)
    story.executions.append(request(story, dice))
    await record(store, story)
    interests = Interests(read=[], noted=[], marked=[], mark="-")
    reader = Following(pool, "unconcerned", interests, Unconcerned(), None)
    actions = ActionsManager(pool, store, Settings())

    async def lag() -> dict[str, int]:
        await reader.catch_up()
        await actions.tick()
        told = {each.name: each.lag_events for each in (await status(pool)).consumers}
        return {name: told[name] for name in ("unconcerned", manager.NAME)}

    # A moment after the start it is not worth a write.
    head = await store.head_position()
    assert await lag() == {"unconcerned": head, manager.NAME: head}
    for module in (following, manager):
        monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    assert await lag() == {"unconcerned": 0, manager.NAME: 0}
