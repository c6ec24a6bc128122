"""Webhooks: where the events of a project are sent."""

from typing import Any

from nbledger_http.endpoints.webhooks import changing, deliveries, reading

HANDLERS: list[Any] = [*changing.HANDLERS, *reading.HANDLERS, *deliveries.HANDLERS]
