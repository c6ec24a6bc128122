"""Histories, for auditors: of single things, of whole projects and tenants, and who read them."""

from typing import Any

from nbledger_http.endpoints.histories import consumers, feeds, reading, reads

HANDLERS: list[Any] = [*reading.HANDLERS, *feeds.PROJECT_HANDLERS, *reads.PROJECT_HANDLERS]
TENANT_HANDLERS: dict[str, list[Any]] = {
    "events": feeds.TENANT_HANDLERS,
    "history-reads": reads.TENANT_HANDLERS,
    "consumers": consumers.TENANT_HANDLERS,
}
"""By what they tell, to who may read the history of all projects of a tenant."""
