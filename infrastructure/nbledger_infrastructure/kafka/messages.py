"""What the relay publishes for an event: the event itself, and commands that follow from it."""

import msgspec

from nbledger_domain.vocabulary.priorities import Priority
from nbledger_infrastructure.commands import Command
from nbledger_infrastructure.kafka import cloudevents
from nbledger_infrastructure.kafka.clients import (
    command_topic,
    control_topic,
    events_topic,
)
from nbledger_infrastructure.kafka.cloudevents import Headers
from nbledger_infrastructure.kafka.structured import structured
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_infrastructure.settings import Kafka


class _Options(msgspec.Struct, frozen=True):
    priority: Priority


MAX_DATA_BYTES = 512 * 1024
"""Larger data is not carried: the message says where it can be read."""


class Message(msgspec.Struct, frozen=True):
    """What is published."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Route(msgspec.Struct, frozen=True, rename="camel"):
    """The part of a request that says which topic its command goes to."""

    kernel_type: str
    options: _Options

    def topic(self, kafka: Kafka) -> str:
        """That topic."""
        return command_topic(kafka, self.kernel_type, self.options.priority)


_encode = msgspec.json.Encoder().encode


def event_message(
    recorded: RecordedEvent, kafka: Kafka, address: str, *, replay_to: str | None = None
) -> Message:
    """The message that publishes an event, to the topic of events unless it is a replay.

    Its value is the data, or else the event as JSON without data: never null, which would delete
    in a compacted topic. ``address`` is what the API is reached by.
    """
    data, dataref = recorded.data, None
    if data is not None and len(data) > MAX_DATA_BYTES:
        data, dataref = None, cloudevents.history_path(recorded)
    headers = cloudevents.event_headers(
        recorded, dataref=dataref, address=address, replay=replay_to is not None
    )
    return Message(
        events_topic(kafka) if replay_to is None else replay_to,
        str(recorded.stream_id).encode(),
        structured(headers, None) if data is None else data,
        headers,
    )


def command_message(recorded: RecordedEvent, kafka: Kafka, route: Route | None) -> Message:
    """The message that tells workers what ``recorded`` asks of them.

    With a route, to execute; without, to cancel. It has no key: whichever worker has room may
    take it.
    """
    kind = cloudevents.CANCEL if route is None else cloudevents.EXECUTE
    command = Command(
        recorded.stream_id, recorded.subject_id, recorded.tenant_id, recorded.project_id
    )
    return Message(
        control_topic(kafka) if route is None else route.topic(kafka),
        None,
        _encode(command),
        cloudevents.command_headers(
            kind,
            command_id=recorded.event_id,
            execution_id=recorded.stream_id,
            at=recorded.occurred_at,
        ),
    )
