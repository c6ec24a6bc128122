"""What requests for replays of events ask for."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nbledger_application.republishing.requesting import AskedReplay
from nbledger_http.requests.declared import FaultReport, read_object
from nbledger_http.requests.queries import MAX_POSITION
from nbledger_infrastructure.kafka.replays.topics import is_live, refusal
from nbledger_infrastructure.settings import Kafka

Position = Annotated[int, Meta(ge=1, le=MAX_POSITION)]


class ReplayRequest(msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """Which events of the project are published again, and where to."""

    topic: Annotated[
        str,
        Meta(
            max_length=249,
            description="The topic, made where it is missing: what its name begins with is "
            "`nbledger.replay.` by default. Or the live topic, `nbledger.events`.",
            examples=["nbledger.replay.warehouse"],
        ),
    ]
    first: Annotated[Position, Meta(description="The first position.")] = msgspec.field(
        name="from", default=1
    )
    last: (
        Annotated[Position, Meta(description="The last position; the newest by default.")] | None
    ) = msgspec.field(name="to", default=None)
    confirm_live: Annotated[
        bool, Meta(description="Whether the topic may be the live one, with all its subscribers.")
    ] = False


def asked_replay(body: dict[str, Any], kafka: Kafka) -> AskedReplay:
    """The replay that the body describes. Raises :class:`InvalidInputError` with every fault."""
    report = FaultReport()
    asked = read_object(ReplayRequest, body, report)
    if asked.last is not None and asked.last < asked.first:
        report.fault("/to", "must not be less than from")
    report.check()
    if (reason := refusal(kafka, asked.topic, own_only=True)) is not None:
        report.fault("/topic", reason)
    elif is_live(kafka, asked.topic) and not asked.confirm_live:
        told = "must be true where the topic is the live one: its subscribers get all of it again"
        report.fault("/confirmLive", told)
    report.check()
    return AskedReplay(asked.topic, asked.first, asked.last)
