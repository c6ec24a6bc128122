"""Why a run must stop, asked for from outside: a cancel, or the end of its time."""

from __future__ import annotations

import asyncio

from nbledger_workers.kernel.protocol import Outcome


class Stop:
    """Why a run must stop; the first reason wins."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.detail = ""
        self.event = asyncio.Event()

    def set(self, outcome: Outcome, detail: str) -> None:
        """Ask for the stop."""
        if self.outcome is None:
            self.outcome, self.detail = outcome, detail
            self.event.set()
