"""nbclient, with outputs gathered in bounded memory."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete

from nbledger_workers.kernel.outputs import OUTPUT_MESSAGES, OutputCollector


class CollectingClient(NotebookClient):
    """An nbclient that gathers outputs in bounded collectors instead of in the notebook."""

    def __init__(self, notebook: Any, manager: AsyncKernelManager, **options: Any) -> None:
        super().__init__(notebook, km=manager, **options)
        self.collectors: dict[int, OutputCollector] = {}
        self.changed: set[int] = set()
        self.executing = asyncio.Event()

    def process_message(  # the signature is nbclient's
        self,
        msg: dict[str, Any],
        cell: Any,  # noqa: ARG002
        cell_index: int,
    ) -> None:
        """Take one IOPub message; raises CellExecutionComplete at the last one."""
        kind = msg["msg_type"]
        collector = self.collectors[cell_index]
        if kind in OUTPUT_MESSAGES:
            collector.add(msg)
        elif kind == "execute_input":
            self.executing.set()
        elif kind == "clear_output":
            collector.clear(wait=bool(msg["content"].get("wait")))
        if kind in ("update_display_data", "display_data", "execute_result"):
            self._update_displays(msg, cell_index)
        elif kind == "status" and msg["content"]["execution_state"] == "idle":
            raise CellExecutionComplete
        # Widgets (comm messages) have no front end here: what they print stays with the cell.

    def _update_displays(self, msg: dict[str, Any], cell_index: int) -> None:
        if not (msg["content"].get("transient") or {}).get("display_id"):
            return
        for index, collector in self.collectors.items():
            if collector.update(msg) and index != cell_index:
                self.changed.add(index)
