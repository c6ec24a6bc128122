"""Webhooks: where the events of a project are sent by HTTP, and which of them."""

from nbledger_domain.webhook.aggregate import DisableReason, Webhook
from nbledger_domain.webhook.matching import TYPE_PATTERN, EventSelection, type_matches
from nbledger_domain.webhook.schedule import RETRY_SECONDS, next_attempt_after

__all__ = [
    "RETRY_SECONDS",
    "TYPE_PATTERN",
    "DisableReason",
    "EventSelection",
    "Webhook",
    "next_attempt_after",
    "type_matches",
]
