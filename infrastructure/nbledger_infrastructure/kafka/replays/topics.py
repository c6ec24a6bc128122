"""Which topics events may be published again to."""

import re
from typing import Final

from nbledger_infrastructure.kafka.clients import events_topic, replay_topics
from nbledger_infrastructure.settings import Kafka

MAX_LENGTH: Final = 249
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]+")


def is_live(kafka: Kafka, topic: str) -> bool:
    """Whether it is the topic of events as they happen."""
    return topic == events_topic(kafka)


def refusal(kafka: Kafka, topic: str, *, own_only: bool) -> str | None:
    """Why the topic cannot be one for replays; None where it can.

    Of the topics with the service's prefix these are the live one and those for replays; with
    ``own_only`` no others are allowed.
    """
    if not _NAME.fullmatch(topic) or len(topic) > MAX_LENGTH or topic in {".", ".."}:
        return f"must be at most {MAX_LENGTH} letters, digits, dots, underscores and hyphens"
    if is_live(kafka, topic):
        return None
    ours = replay_topics(kafka)
    if topic.startswith(ours) and topic != ours:
        return None
    if own_only or topic.startswith(f"{kafka.topic_prefix}."):
        return f"must begin with {ours} and go on, or be {events_topic(kafka)}"
    return None
