"""The log that proves a tenant's history: its checkpoints and tiles, and proofs of its entries."""

from typing import Any

from nbledger_http.endpoints.transparency_log import proving, reading, stamping

HANDLERS: list[Any] = [*reading.HANDLERS, *proving.HANDLERS, *stamping.HANDLERS]
