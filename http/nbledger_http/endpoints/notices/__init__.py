"""Notices: what the service has told by itself."""

from typing import Any

from nbledger_http.endpoints.notices import reading

HANDLERS: list[Any] = [*reading.HANDLERS]
