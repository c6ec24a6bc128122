"""How the result of an execution came about: as JSON, and as an RO-Crate."""

from typing import Any

from nbledger_http.endpoints.provenance import reading

HANDLERS: list[Any] = [*reading.HANDLERS]
