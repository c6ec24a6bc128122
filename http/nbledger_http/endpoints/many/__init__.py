"""Many executions at once: list them by a filter, cancel and rerun them."""

from typing import Any

from nbledger_http.endpoints.many import acting, reading

HANDLERS: list[Any] = [*reading.HANDLERS, *acting.HANDLERS]
