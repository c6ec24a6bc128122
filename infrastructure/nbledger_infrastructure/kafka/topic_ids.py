"""Ids of topics: a topic that is made anew under its old name has another one.

aiokafka asks for metadata in versions that do not tell them; this request does (version 10, which
Apache Kafka answers since 2.8).
"""

import asyncio
from io import BytesIO
from typing import Any, ClassVar
from uuid import UUID

from aiokafka.errors import KafkaError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from nbledger_infrastructure.kafka.aiokafka_internals import Client, network

ANSWER_SECONDS = 10.0
"""Seconds for the broker to answer."""

_KEY = 3
_VERSION = 10


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _Answer(Response):  # type: ignore[misc]
    # As aiokafka's own responses have it.
    API_KEY = _KEY  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    API_VERSION = _VERSION  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("operations", Int32),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    API_KEY = _KEY
    API_VERSION = _VERSION
    RESPONSE_TYPE = _Answer
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_operations", Boolean),
        ("include_topic_operations", Boolean),
        ("tags", TaggedFields),
    )


class _AllTopics(Request[_Question]):  # type: ignore[misc]
    API_KEY: ClassVar[int] = _KEY

    def build(self, request_struct_class: type[_Question]) -> _Question:
        # None is all of them: to ask for one by its name would make it, on some brokers.
        return request_struct_class(None, False, False, False, {})


async def topic_ids(client: Client) -> dict[str, UUID]:
    """The id of each topic that the broker has.

    Raises ``KafkaError`` or ``TimeoutError`` when the broker does not answer.
    """
    sending = network(client)
    async with asyncio.timeout(ANSWER_SECONDS):
        node = sending.get_random_node()
        if node is None or not await sending.ready(node):
            raise KafkaError("no broker is known")
        answer: Any = await sending.send(node, _AllTopics())
    return {topic[1]: topic[2] for topic in answer.topics if not topic[0]}
