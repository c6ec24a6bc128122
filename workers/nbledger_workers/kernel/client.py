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
from nbledger_workers.kernel.reception import Reception
from nbledger_workers.kernel.widgets import WidgetStates

# After the reply, so long twice without any message: what says that the cell is over is lost.
_SILENCE_SECONDS: Final = 5.0
_MESSAGES_BETWEEN_OTHERS: Final = 50

_DISPLAYS: Final = frozenset({"update_display_data", "display_data", "execute_result"})


class CellClient(NotebookClient):
    """An nbclient that gathers what cells put out in bounded collectors.

    nbclient's own way with outputs keeps them all in memory, reads on however far behind their
    reader is, and drops what comes from a thread that has outlived its cell.

    Output that comes from a thread which has outlived its cell is kept with the cell that runs
    when it comes; what belongs to no cell, such as remarks of the kernel's own at its start, is
    not kept. `changed` are earlier cells of which a display was updated. `executing` and `idle`
    tell that the kernel has begun with the cell, and that it is done with it; `reply` is the
    content of its reply, once that is there. The state of widgets goes to `widgets`, where they are
    kept, and with it what is put out into a widget that shows outputs.
    """

    def __init__(self, client: AsyncKernelClient) -> None:
        super().__init__(
            # Its one place is that of the cell at hand.
            _node({"cells": [None]}),
            config=Config(),
            allow_errors=True,
            record_timing=False,
            coalesce_streams=False,
        )
        client.allow_stdin = False
        self.kc: Any = client
        self.collectors: dict[int, OutputCollector] = {}
        self.changed: set[int] = set()
        self.executing = asyncio.Event()
        self.idle = asyncio.Event()
        self.asked_for_input: asyncio.Future[dict[str, Any]]
        self.asked_for_input = asyncio.get_running_loop().create_future()
        self.reply: dict[str, Any] | None = None
        self.reception = Reception()
        self.widgets: WidgetStates | None = None
        self._index = -1
        self._on_output: Callable[[], Awaitable[None]]
        self._requests: set[str] = set()
        self._receiving = False

    def begin(self, index: int, collector: OutputCollector) -> None:
        """Make the cell at `index` the one that runs; call it before `run_cell`."""
        self._index = index
        self.collectors[index] = collector
        self.executing.clear()
        self.idle.clear()
        self.reply = None
        self.reception.begin()
        if self.asked_for_input.done():
            self.asked_for_input = asyncio.get_running_loop().create_future()

    async def run_cell(self, source: str, *, on_output: Callable[[], Awaitable[None]]) -> None:
        """Run a cell to its end: its `reply` is there, and all output of it was taken.

        `on_output` is awaited after every output. Where the kernel has replied and does not say
        that it is done, `idle` is not set.
        """
        self._on_output = on_output
        await self.async_execute_cell(
            _node({"cell_type": "code", "metadata": {}, "source": source}), 0
        )

    @property
    def loss(self) -> str | None:
        """What of the cell's output may be missing, in words, once it is over; None: nothing."""
        if self.reply is not None and not self.idle.is_set():
            return "the kernel has not told that the cell was over"
        return self.reception.loss

    async def _async_poll_for_reply(
        self,
        msg_id: str,
        cell: NotebookNode,  # noqa: ARG002 - the signature is nbclient's
        timeout: int | None,  # noqa: ARG002
        task_poll_output_msg: asyncio.Future[Any],
        task_poll_kernel_alive: asyncio.Future[Any],
    ) -> dict[str, Any]:
        """Wait for the reply and then for all output."""
        try:
            while True:
                message: dict[str, Any] = await self.kc.shell_channel.get_msg(timeout=None)
                if message["parent_header"].get("msg_id") == msg_id:
                    break
            self.reply = message["content"]
            await self._until_idle(task_poll_output_msg)
        finally:
            task_poll_kernel_alive.cancel()
        return message

    async def _until_idle(self, polling: asyncio.Future[Any]) -> None:
        """Wait until messages end, by what the kernel tells or by its silence."""
        silent = 0
        while silent < 2:
            before = self.reception.count
            done, _ = await asyncio.wait({polling}, timeout=_SILENCE_SECONDS)
            if done:
                polling.result()
                return
            # Once may be while this process was held: then all that came meanwhile is read first.
            quiet = self._receiving and self.reception.count == before
            silent = silent + 1 if quiet else 0
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)

    async def _async_poll_kernel_alive(self) -> None:
        """Leave it to the supervisor, which knows of the kernel's end at once."""

    async def _async_poll_output_msg(
        self,
        parent_msg_id: str,
        cell: NotebookNode,  # noqa: ARG002 - the signature is nbclient's
        cell_index: int,  # noqa: ARG002
    ) -> None:
        """Take messages until the kernel says that it is done with the cell."""
        self._requests.add(parent_msg_id)
        count = 0
        while True:
            self._receiving = True
            identities, message = await _receive(self.kc.iopub_channel)
            self._receiving = False
            self.reception.note(identities)
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
            _, message = await _receive(channel)
            if message["msg_type"] == "input_request" and not self.asked_for_input.done():
                self.asked_for_input.set_result(message)

    def answer_nothing(self) -> None:
        """Answer the question with empty text, so that the kernel wakes up."""
        question = self.asked_for_input.result()
        self.kc.stdin_channel.send(
            self.kc.session.msg("input_reply", {"value": ""}, parent=question)
        )

    def _take(self, kind: str, message: dict[str, Any]) -> bool:
        if self.widgets is not None and kind in ("comm_open", "comm_msg"):
            self.widgets.take(message)
            return False
        if message["parent_header"].get("msg_id") not in self._requests:
            return False
        if self.widgets is not None and self.widgets.captures(message):
            return False
        collector = self.collectors[self._index]
        if kind in OUTPUT_MESSAGES:
            collector.add(message)
        elif kind == "clear_output":
            collector.clear(wait=bool(message["content"].get("wait")))
        elif kind != "update_display_data":
            return False
        if kind in _DISPLAYS and (message["content"].get("transient") or {}).get("display_id"):
            for index, each in self.collectors.items():
                if each.update(message) and index != self._index:
                    self.changed.add(index)
        return True


def _node(content: dict[str, Any]) -> NotebookNode:
    node: NotebookNode = nbformat.from_dict(content)  # type: ignore[no-untyped-call]
    return node


async def _receive(channel: Any) -> tuple[list[bytes], dict[str, Any]]:
    """The frames before the delimiter and the message of what comes next.

    The message is without its times: the session's own way spends most on reading them.
    """
    session = channel.session
    identities, parts = session.feed_identities(await channel.socket.recv_multipart())
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
    message["buffers"] = parts[5:]
    return identities, message
