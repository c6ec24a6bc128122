"""nbclient, one cell at a time on a started kernel, with outputs gathered in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Any, Final

import nbformat
from jupyter_client.adapter import adapt
from jupyter_client.asynchronous.client import AsyncKernelClient
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

from nbledger_workers.kernel.outputs import OUTPUT_MESSAGES, OutputCollector

# From the reply to the last output; a dead kernel ends it sooner.
_LAST_SECONDS: Final = 300
_MESSAGES_BETWEEN_OTHERS: Final = 50

_DISPLAYS: Final = frozenset({"update_display_data", "display_data", "execute_result"})


class CellClient(NotebookClient):
    """An nbclient that gathers what cells put out in bounded collectors.

    nbclient's own way with outputs keeps them all in memory, reads on however far behind their
    reader is, and drops what comes from a thread that has outlived its cell.

    Output that comes from a thread which has outlived its cell is kept with the cell that runs
    when it comes. `changed` are earlier cells of which a display was updated. `executing` and
    `idle` tell that the kernel has begun with the cell, and that it is done with it.
    """

    def __init__(self, client: AsyncKernelClient) -> None:
        super().__init__(
            # Its one place is that of the cell at hand.
            _node({"cells": [None]}),
            config=Config(),
            allow_errors=True,
            record_timing=False,
            coalesce_streams=False,
            iopub_timeout=_LAST_SECONDS,
            raise_on_iopub_timeout=True,
            on_cell_executed=self._keep_reply,
        )
        client.allow_stdin = False
        self.kc: Any = client
        self.collectors: dict[int, OutputCollector] = {}
        self.changed: set[int] = set()
        self.executing = asyncio.Event()
        self.idle = asyncio.Event()
        self.asked_for_input: asyncio.Future[dict[str, Any]]
        self.asked_for_input = asyncio.get_running_loop().create_future()
        self._index = -1
        self._on_output: Callable[[], Awaitable[None]]
        self._reply: dict[str, Any] = {}

    def begin(self, index: int, collector: OutputCollector) -> None:
        """Make the cell at `index` the one that runs; call it before `run_cell`."""
        self._index = index
        self.collectors[index] = collector
        self.executing.clear()
        self.idle.clear()
        if self.asked_for_input.done():
            self.asked_for_input = asyncio.get_running_loop().create_future()

    async def run_cell(
        self, source: str, *, on_output: Callable[[], Awaitable[None]]
    ) -> dict[str, Any]:
        """Run a cell to its end and return the content of the kernel's reply.

        `on_output` is awaited after every output. Raises TimeoutError when the kernel has
        replied, but does not say that it is done.
        """
        self._on_output, self._reply = on_output, {}
        await self.async_execute_cell(
            _node({"cell_type": "code", "metadata": {}, "source": source}), 0
        )
        return self._reply

    def _keep_reply(self, execute_reply: dict[str, Any], **_: Any) -> None:
        self._reply = execute_reply["content"]

    async def _async_poll_kernel_alive(self) -> None:
        """Leave it to the supervisor, which knows of the kernel's end at once."""

    async def _async_poll_output_msg(
        self,
        parent_msg_id: str,
        cell: NotebookNode,  # noqa: ARG002 - the signature is nbclient's
        cell_index: int,  # noqa: ARG002
    ) -> None:
        """Take messages until the kernel says that it is done with the cell."""
        count = 0
        while True:
            message = await _receive(self.kc.iopub_channel)
            kind = message["msg_type"]
            if kind == "status":
                if (
                    message["content"]["execution_state"] == "idle"
                    and message["parent_header"].get("msg_id") == parent_msg_id
                ):
                    self.idle.set()
                    return
            elif kind == "execute_input":
                self.executing.set()
            elif self._take(kind, message):
                await self._on_output()
            count += 1
            if count % _MESSAGES_BETWEEN_OTHERS == 0:
                # Messages that wait are received without giving way to anything else.
                await asyncio.sleep(0)

    async def watch_stdin(self) -> None:
        """Note when the kernel asks for input although it was told that there is none."""
        channel = self.kc.stdin_channel
        while True:
            message = await _receive(channel)
            if message["msg_type"] == "input_request" and not self.asked_for_input.done():
                self.asked_for_input.set_result(message)

    def answer_nothing(self) -> None:
        """Answer the question with empty text, so that the kernel wakes up."""
        question = self.asked_for_input.result()
        self.kc.stdin_channel.send(
            self.kc.session.msg("input_reply", {"value": ""}, parent=question)
        )

    def _take(self, kind: str, message: dict[str, Any]) -> bool:
        collector = self.collectors[self._index]
        if kind in OUTPUT_MESSAGES:
            collector.add(message)
        elif kind == "clear_output":
            collector.clear(wait=bool(message["content"].get("wait")))
        elif kind != "update_display_data":
            # Widgets (comm messages) have no front end here: what they print stays with the cell.
            return False
        if kind in _DISPLAYS and (message["content"].get("transient") or {}).get("display_id"):
            for index, each in self.collectors.items():
                if each.update(message) and index != self._index:
                    self.changed.add(index)
        return True


def _node(content: dict[str, Any]) -> NotebookNode:
    node: NotebookNode = nbformat.from_dict(content)  # type: ignore[no-untyped-call]
    return node


async def _receive(channel: Any) -> dict[str, Any]:
    """The next message, but for its times: the session's own way spends most on reading them."""
    session = channel.session
    _, parts = session.feed_identities(await channel.socket.recv_multipart())
    if session.auth is not None and not compare_digest(parts[0], session.sign(parts[1:5])):
        raise ValueError("a message was not signed by the kernel")
    header, parent, metadata, content = (session.unpack(part) for part in parts[1:5])
    message: dict[str, Any] = adapt(
        {
            "header": header,
            "msg_id": header["msg_id"],
            "msg_type": header["msg_type"],
            "parent_header": parent,
            "metadata": metadata,
            "content": content,
        }
    )
    return message
