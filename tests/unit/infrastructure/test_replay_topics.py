"""Which topics may be replayed to."""

import pytest

from nbledger_infrastructure.kafka.replays.topics import is_live, refusal
from nbledger_infrastructure.settings import Kafka

KAFKA = Kafka(topic_prefix="own")


@pytest.mark.parametrize(
    ("topic", "anywhere", "within"),
    [
        ("own.events", True, True),
        ("own.replay.catch-up", True, True),
        ("own.replay.", False, False),
        ("own.commands.python3.normal", False, False),
        ("own.control", False, False),
        ("own.checkpoints", False, False),
        ("own.execution-state", False, False),
        ("warehouse", True, False),
        ("owner.events", True, False),
        ("", False, False),
        ("..", False, False),
        ("a b", False, False),
        ("x" * 249, True, False),
        ("x" * 250, False, False),
    ],
)
def test_topics_of_the_service_are_not_written_by_replays(
    topic: str,
    anywhere: bool,  # noqa: FBT001
    within: bool,  # noqa: FBT001
) -> None:
    assert (refusal(KAFKA, topic, own_only=False) is None) is anywhere
    assert (refusal(KAFKA, topic, own_only=True) is None) is within


def test_the_live_topic_is_that_of_the_prefix() -> None:
    assert is_live(KAFKA, "own.events")
    assert not is_live(KAFKA, "nbledger.events")
    assert not is_live(KAFKA, "own.replay.events")
