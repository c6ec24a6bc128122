"""The status of a notebook, which follows from its executions."""

from enum import StrEnum

import msgspec

from nbledger_domain.execution import TERMINAL_EVENTS, Execution


class NotebookStatus(StrEnum):
    """What a client is told of a notebook."""

    READY = "Ready"
    RUNNING = "Running"
    ERROR = "Error"
    KERNEL_DEAD = "Kernel_Dead"


OUTCOMES = {event.TYPE: NotebookStatus.READY for event in TERMINAL_EVENTS} | {
    Execution.Failed.TYPE: NotebookStatus.ERROR,
    Execution.TimedOut.TYPE: NotebookStatus.ERROR,
    Execution.KernelDied.TYPE: NotebookStatus.KERNEL_DEAD,
}
"""What the end of an execution, by its event type, makes of a notebook at rest."""


class NotebookActivity(msgspec.Struct, rename="camel"):
    """The executions under way, each with the cell it is at, and how the last to end ended."""

    running: dict[str, str | None] = {}
    outcome: NotebookStatus = NotebookStatus.READY

    @property
    def status(self) -> NotebookStatus:
        """Running while anything runs; else what the last execution to end left behind."""
        return NotebookStatus.RUNNING if self.running else self.outcome
