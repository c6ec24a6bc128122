"""What the broker has of each state topic, kept in the database.

A topic that was made anew, in the place of one that the broker has lost, gets all documents again;
so does one whose read model was built anew, as its documents may have another form.
"""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

import msgspec

from nbledger_infrastructure.kafka.clients import state_topic
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.settings import Kafka
from nbledger_projections.state_topics.changes import Reach
from nbledger_projections.state_topics.states import STATES, StateKind

_FIRST: Final = UUID(int=0)

_LOAD: Final = "SELECT topic, topic_id, generation, filled_through FROM state_topic"

_FORGET: Final = """
UPDATE state_topic SET topic_id = '00000000-0000-0000-0000-000000000000' WHERE topic = ANY($1)
"""

_SAVE: Final = """
INSERT INTO state_topic (topic, topic_id, generation, filled_through) VALUES ($1, $2, $3, $4)
ON CONFLICT (topic) DO UPDATE SET topic_id = excluded.topic_id, generation = excluded.generation,
    filled_through = excluded.filled_through
"""


class _Kept(msgspec.Struct):
    topic_id: UUID
    generation: int
    filled_through: UUID | None


class Filling:
    """Which topics lack documents, and from which one on."""

    def __init__(self, kafka: Kafka) -> None:
        self._topics = {each.kind: state_topic(kafka, each.topic) for each in STATES}
        self._kept: dict[str, _Kept] = {}

    async def load(self, connection: PooledConnection) -> bool:
        """Read what is kept; whether anything is."""
        rows = await connection.fetch(_LOAD)
        self._kept = {row["topic"]: _Kept(*(row[at] for at in (1, 2, 3))) for row in rows}
        return bool(rows)

    async def compare(
        self, connection: PooledConnection, ids: Mapping[str, UUID], reach: Reach
    ) -> list[str]:
        """Begin anew with topics that have another id or edition; returns their names.

        Every topic is among ``ids``.
        """
        begun = []
        for each in STATES:
            topic = self._topics[each.kind]
            now = (ids[topic], reach.generations[each.model])
            kept = self._kept.get(topic)
            if kept is None or (kept.topic_id, kept.generation) != now:
                begun.append(topic)
                await self._save(connection, topic, _Kept(*now, filled_through=_FIRST))
        return begun

    def has_all(self, ids: Mapping[str, UUID]) -> bool:
        """Whether the broker still has the topics that were compared."""
        return all(self._kept[topic].topic_id == ids.get(topic) for topic in self._topics.values())

    async def forget(self, connection: PooledConnection) -> None:
        """Let the next comparison find the topics made anew: the broker has lost what it took."""
        await connection.execute(_FORGET, list(self._topics.values()))

    def lacking(self) -> tuple[StateKind, UUID] | None:
        """A kind of documents of which some are to be published, and the id that they follow."""
        for each in STATES:
            kept = self._kept.get(self._topics[each.kind])
            if kept is not None and kept.filled_through is not None:
                return each, kept.filled_through
        return None

    async def filled(
        self, connection: PooledConnection, kind: StateKind, last: UUID | None
    ) -> None:
        """The broker has the documents up to this one; with None it has all."""
        topic = self._topics[kind.kind]
        kept = msgspec.structs.replace(self._kept[topic], filled_through=last)
        await self._save(connection, topic, kept)

    async def _save(self, connection: PooledConnection, topic: str, kept: _Kept) -> None:
        await connection.execute(_SAVE, topic, kept.topic_id, kept.generation, kept.filled_through)
        self._kept[topic] = kept
