"""Requests for webhooks."""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from nbledger_application.webhooks.subscribing import Subscription
from nbledger_domain.histories.event_types import unknown_type
from nbledger_domain.webhook import EventSelection
from nbledger_http.requests.declared import FaultReport, read_object
from nbledger_http.requests.queries import MAX_POSITION
from nbledger_http.requests.webhooks.urls import wrong_url
from nbledger_http.security.access import guid
from nbledger_infrastructure.egress.addresses import Reach

MAX_URL: Final = 2000
MAX_VALUES: Final = 100
"""A webhook names so many types or tags at most."""

Url = Annotated[
    str,
    Meta(
        max_length=MAX_URL,
        description="Where events are sent by POST: HTTPS, to a name or a public address. It is in "
        "the project's history for everyone who may read that, so it should hold no secret: "
        "signatures tell that a delivery is genuine.",
        examples=["https://hooks.example.com/nbledger"],
        extra_json_schema={"format": "uri"},
    ),
]
EventTypes = Annotated[
    list[Annotated[str, Meta(max_length=100)]],
    Meta(
        max_length=MAX_VALUES,
        description="Only events of these types, or whose type begins so: `execution.completed.v1`"
        ", `execution.completed`, `execution`. None: all events.",
        examples=[["execution.completed", "execution.failed"]],
    ),
]
Tags = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=200)]],
    Meta(
        max_length=MAX_VALUES,
        description="Only events of executions that were requested with one of these tags.",
    ),
]
Description = Annotated[str, Meta(max_length=1000, description="What it is for.")]
Ordered = Annotated[
    bool,
    Meta(
        description="Whether an event waits until those before it in its stream are delivered or "
        "given up. Without it, an event that fails holds up no other, and may come after later "
        "ones."
    ),
]


class WebhookRequest(msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """A webhook: where events are sent, and which."""

    url: Url
    event_types: EventTypes = []
    tags: Tags = []
    description: Description = ""
    ordered: Ordered = False


class WebhookChange(WebhookRequest, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """What the webhook is to be; what is left out is as in a new one."""

    enabled: Annotated[
        bool,
        Meta(
            description="Whether events are sent. Those that are recorded meanwhile are not sent "
            "later by themselves; a redelivery sends them."
        ),
    ] = True


class WebhookRedelivery(msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """What is to be sent again: events by their ids, or a range of positions."""

    event_ids: (
        Annotated[
            list[Annotated[str, Meta(extra_json_schema={"format": "uuid"})]],
            Meta(max_length=1000, description="Events of the project, wanted or not."),
        ]
        | None
    ) = None
    after: (
        Annotated[
            int,
            Meta(ge=0, le=MAX_POSITION, description="The wanted events after this position,"),
        ]
        | None
    ) = None
    until: Annotated[int, Meta(ge=1, le=MAX_POSITION, description="and up to this one.")] | None = (
        None
    )


def asked_webhook(body: dict[str, Any], *, reach: Mapping[str, Reach]) -> Subscription:
    """The webhook that the body describes. Raises :class:`InvalidInputError` with every fault."""
    report = FaultReport()
    asked = read_object(WebhookRequest, body, report)
    return _checked(asked, report, reach=reach)


def asked_change(body: dict[str, Any], *, reach: Mapping[str, Reach]) -> tuple[Subscription, bool]:
    """Likewise of an existing one, and whether it is to be enabled."""
    report = FaultReport()
    asked = read_object(WebhookChange, body, report)
    return _checked(asked, report, reach=reach), asked.enabled


def asked_redelivery(body: dict[str, Any]) -> list[UUID] | tuple[int, int]:
    """The events, or the range ``(after, until)``. Raises :class:`InvalidInputError`."""
    report = FaultReport()
    asked = read_object(WebhookRedelivery, body, report)
    ids = [guid(text) for text in asked.event_ids or ()]
    for number, each in enumerate(ids):
        if each is None:
            report.fault(f"/eventIds/{number}", "must be the id of an event, a GUID")
    if asked.event_ids is not None:
        if asked.after is not None or asked.until is not None:
            report.fault("/eventIds", "does not go with after and until; send one of them")
        elif not ids:
            report.fault("/eventIds", "must have at least one item")
    elif asked.after is None or asked.until is None:
        report.fault("/after", "is required with until, unless there are eventIds")
    elif asked.after >= asked.until:
        report.fault("/until", "must be greater than after")
    report.check()
    if asked.after is not None and asked.until is not None:
        return asked.after, asked.until
    return [each for each in ids if each is not None]


def _checked(
    asked: WebhookRequest, report: FaultReport, *, reach: Mapping[str, Reach]
) -> Subscription:
    if not report.faults and (reason := wrong_url(asked.url, reach)):
        report.fault("/url", reason)
    for number, each in enumerate(asked.event_types):
        if reason := unknown_type(each):
            report.fault(f"/eventTypes/{number}", reason)
    report.check()
    return Subscription(
        url=asked.url,
        wanted=EventSelection(
            event_types=tuple(dict.fromkeys(asked.event_types)),
            tags=tuple(dict.fromkeys(asked.tags)),
        ),
        description=asked.description,
        ordered=asked.ordered,
    )
