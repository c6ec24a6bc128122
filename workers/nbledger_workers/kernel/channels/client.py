"""nbclient, one cell at a time on a started kernel, with outputs gathered in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

import nbformat
from jupyter_client.asynchronous.client import AsyncKernelClient
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

from nbledger_workers.kernel.channels.backpressure import Passage
from nbledger_workers.kernel.channels.cell_end import CellEnd, Told, mark_of
from nbledger_workers.kernel.channels.incoming import Incoming, Received
from nbledger_workers.kernel.channels.reception import Reception
from nbledger_workers.kernel.channels.routing import Routing
from nbledger_workers.kernel.inside.members import REPLY_MEMBER
from nbledger_workers.kernel.outputs.collector import OutputCollector

# After the reply, so long twice without any message: what says that the cell is over is lost.
_SILENCE_SECONDS: Final = 5.0
# A kernel that goes on sending is not read for longer after its last cell, nor one that has ended,
# of which only so much is left as has arrived.
_MOST_LATE_SECONDS: Final = 1.0
_MOST_LATE_SECONDS_ENDED: Final = 5.0
# A kernel that has ended may have sent more than has arrived, on a busy machine.
_FAREWELL_SECONDS: Final = 1.0


class CellClient(NotebookClient):
    """An nbclient that gathers what cells put out in bounded collectors.

    nbclient's own way with outputs keeps them all in memory, reads on however far behind their
    reader is, and drops what comes from a thread that has outlived its cell. Here `routing` puts
    them where they belong.

    A cell has the kernel's key and its sockets, so that no message is believed as it stands: what
    a cell can bring about by messages is that its run is flagged, or that its own outputs look odd.

    `idle` is set when the kernel says that it is done with the cell; `reply` is the content of its
    reply, once that is there, and `told` what a kernel with `inside` tells with it. `mark_key` is
    what the kernel marks the end of cells with (`inside`), None of one that does not. `passages`
    are those of its channels by name, where they have any.
    """

    def __init__(
        self, client: AsyncKernelClient, passages: Mapping[str, Passage], *, mark_key: str | None
    ) -> None:
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
        self.routing = Routing()
        self.idle = asyncio.Event()
        self.asked_for_input: asyncio.Future[dict[str, Any]]
        self.asked_for_input = asyncio.get_running_loop().create_future()
        self.reception = Reception()
        #: Replies to cells that were over; there are none unless a cell has made one itself.
        self.late_replies = 0
        self._mark_key = mark_key
        self._on_output: Callable[[], Awaitable[None]]
        self._passages = passages
        self._iopub = Incoming(client.iopub_channel, passages.get("iopub"))
        self._shell = Incoming(client.shell_channel, passages.get("shell"))
        self._end = CellEnd(None)
        self._request: str | None = None
        self._question: str | None = None
        self._answered = asyncio.Event()
        # What the kernel publishes when it ends in order, after all output; None when it has.
        self._farewell: str | None = None

    def begin(self, index: int, collector: OutputCollector) -> None:
        """Make the cell at `index` the one that runs; call it before `run_cell`."""
        self.routing.begin(index, collector)
        self.idle.clear()
        self.late_replies = 0
        self.reception.begin()
        self._end, self._request = CellEnd(None), None
        self._question = None
        self._answered.clear()
        self._renew_ids()
        if self.asked_for_input.done():
            self.asked_for_input = asyncio.get_running_loop().create_future()

    async def run_cell(self, source: str, *, on_output: Callable[[], Awaitable[None]]) -> None:
        """Run a cell to its end: its `reply` is there, and all output of it was taken.

        `on_output` is awaited after every output. `loss` says where the kernel has replied and is
        not known to be done.
        """
        self._on_output = on_output
        await self.async_execute_cell(
            _node({"cell_type": "code", "metadata": {}, "source": source}), 0
        )

    @property
    def reply(self) -> dict[str, Any] | None:
        """The content of the kernel's reply to the cell, once that is there."""
        return self._end.reply

    @property
    def told(self) -> Told | None:
        """What the kernel has told with that reply; None where it did not tell."""
        return None if self._end.reply is None else self._end.told

    @property
    def replies(self) -> int:
        """How many replies came to the cell."""
        return self._end.replies

    @property
    def loss(self) -> str | None:
        """What of the cell's output may be missing, in words, once it is over; None: nothing."""
        if self._end.lacks_reply:
            return "the kernel's reply was lost"
        if self._end.reply is not None and not self._end.over:
            return "the kernel has not told that the cell was over"
        if self._end.late and self.reception.loss is None:
            return "the kernel gave up waiting until all of it was published"
        return self.reception.loss

    async def is_free(self, seconds: float) -> bool:
        """Whether the kernel is done with the running cell: it answers something else in time."""
        self._ask()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._answered.wait()
        return self._answered.is_set()

    def begin_end(self, farewell: str) -> None:
        """Keep all output from now on with the last cell; call it before the kernel is to end.

        A kernel with `marks` publishes `farewell` after all output.
        """
        self._begin_late()
        self.routing.begin_end()
        self._farewell = farewell if self._mark_key is not None else None

    async def take_ending(self) -> None:
        """Take what the kernel puts out while it ends; goes on until it is cancelled."""
        while True:
            self._take_late(await self._iopub.next())

    async def take_late(self, *, seconds: float, cut: bool) -> str | None:
        """Take what has come since the last cell was over, as a part of it.

        It ends when so many seconds pass without a message, or when it has taken too long: then
        what comes later is missing. `cut` says that the kernel had begun to end and was killed.
        Returns what may be missing, in words.
        """
        last = self.routing.last
        if last is None:
            return None
        if not self.routing.ending:
            self._begin_late()
        loop = asyncio.get_running_loop()
        until = loop.time() + (_MOST_LATE_SECONDS_ENDED if seconds else _MOST_LATE_SECONDS)
        while (received := await self._iopub.within(self._patience(seconds))) is not None:
            self._take_late(received)
            if loop.time() >= until:
                self.reception.note_cut()
                break
        while (received := await self._shell.within(0)) is not None:
            self._take_reply(received, None)
            if loop.time() >= until:
                self.reception.note_cut()
                break
        loss = self.reception.loss
        if loss is None and cut:
            loss = "the kernel was ended before it had sent all of it"
        elif loss is None and self._farewell is not None:
            loss = "the kernel ended and had not told that all of it was sent"
        if loss is not None:
            last.note_loss()
            self.routing.note_changed()
        return loss

    def _patience(self, seconds: float) -> float:
        """Seconds to wait for a message: for one that a kernel sends that ends in order, longer."""
        return seconds if self._farewell is None else max(seconds, _FAREWELL_SECONDS)

    def _begin_late(self) -> None:
        self.reception.begin()
        self.late_replies = 0

    def _take_late(self, received: Received) -> None:
        if self._sort(received):
            self.routing.note_changed()

    def _begin_request(self, request_id: str) -> None:
        """Note the running cell's request; whichever channel is read first does it."""
        if self._request != request_id:
            self._request = request_id
            self.routing.add_request(request_id)
            key = self._mark_key
            self._end = CellEnd(None if key is None else mark_of(key, request_id))

    async def _async_poll_for_reply(
        self,
        msg_id: str,
        cell: NotebookNode,  # noqa: ARG002 - the signature is nbclient's
        timeout: int | None,  # noqa: ARG002
        task_poll_output_msg: asyncio.Future[Any],
        task_poll_kernel_alive: asyncio.Future[Any],
    ) -> dict[str, Any]:
        """Wait for the reply and then for all output."""
        polling = task_poll_output_msg
        self._begin_request(msg_id)
        self._shell.look_again()
        try:
            if await self._has_reply(msg_id) and not self._end.over:
                await self._until_over(msg_id, polling)
        finally:
            task_poll_kernel_alive.cancel()
            if self._end.over and not self._iopub.waits:
                # It comes to its end by itself. What it sends must not be cut.
                await asyncio.wait((polling,))
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        return {"content": self._end.reply or {"status": "aborted"}}

    async def _has_reply(self, msg_id: str) -> bool:
        """Wait for a reply to the request; False where it was lost on its way.

        The kernel has told on the other channel then that the cell is over, or it seems so. An
        answer to a question comes after the reply, and if nothing comes at all from a kernel that
        is done with the cell, that is lost as well.
        """
        loop = asyncio.get_running_loop()
        silent, since = 0, None
        while True:
            received = await self._shell.within(_SILENCE_SECONDS)
            if received is not None and self._take_reply(received, msg_id):
                return True
            lacks_reply = self._end.lacks_reply
            if not (lacks_reply or self._end.may_lack_reply):
                continue
            since = loop.time() if since is None else since
            silent += received is None
            # Once may be while this process was held.
            if self._end.answered or (lacks_reply and silent > 1):
                return False
            if silent or loop.time() - since >= _SILENCE_SECONDS:
                self._ask()

    async def _until_over(self, msg_id: str, polling: asyncio.Future[Any]) -> None:
        """Wait until messages end, by what the kernel tells or by its silence."""
        replying = asyncio.create_task(self._take_replies(msg_id))
        try:
            self._ask_if_doubtful()
            silent = 0
            while silent < 2:
                before = self.reception.count
                done, _ = await asyncio.wait(
                    {polling, replying},
                    timeout=_SILENCE_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if done:
                    done.pop().result()
                    return
                # Once may be while this process was held: then all that came meanwhile is read
                # first. A kernel that is yet to reply may be silent.
                quiet = self._iopub.waits and self.reception.count == before
                silent = silent + 1 if quiet and self._end.reply is not None else 0
        finally:
            replying.cancel()
            await asyncio.gather(replying, return_exceptions=True)

    async def _take_replies(self, msg_id: str) -> None:
        """Take further replies, and an answer, until the cell is over."""
        while not self._end.over:
            self._take_reply(await self._shell.next(), msg_id)

    def _take_reply(self, received: Received, msg_id: str | None) -> bool:
        """Take a message of the shell channel; whether it is a reply to the request.

        Without a request, of which None stands for none, every reply is to a cell that is over.
        """
        message = received.message
        if message is None:
            return False
        if message["msg_type"] == "kernel_info_reply":
            if (
                self._question is not None
                and message["parent_header"].get("msg_id") == self._question
            ):
                self._end.take_answer("shell")
            return False
        if message["msg_type"] != "execute_reply":
            return False
        with suppress(TypeError):  # of an id that is no text
            parent = message["parent_header"].get("msg_id")
            if msg_id is not None and parent == msg_id:
                self._end.take_reply(message["content"], message["header"].get("date"))
                self._ask_if_doubtful()
                return True
            self.late_replies += self.routing.is_of_cell(parent)
        return False

    def _ask_if_doubtful(self) -> None:
        if self._end.doubtful:
            self._ask()

    def _ask(self) -> None:
        """Ask the kernel something that it answers when it is done with the cell; once."""
        if self._question is None:
            self._renew_ids()
            self._question = self.kc.kernel_info()
            self._shell.look_again()

    def _renew_ids(self) -> None:
        """Give the next requests ids that no cell can guess: they would be numbered else."""
        self.kc.session.session = uuid4().hex

    async def _async_poll_kernel_alive(self) -> None:
        """Leave it to the supervisor, which knows of the kernel's end at once."""

    async def _async_poll_output_msg(
        self,
        parent_msg_id: str,
        cell: NotebookNode,  # noqa: ARG002 - the signature is nbclient's
        cell_index: int,  # noqa: ARG002
    ) -> None:
        """Take messages until the cell is over."""
        self._begin_request(parent_msg_id)
        while not self._end.over:
            if self._sort(await self._iopub.next()):
                await self._on_output()

    def _sort(self, received: Received) -> bool:
        """Take a message by what it is; whether it was output. What makes no sense is noted."""
        message = received.message
        self.reception.note(received.identities, readable=message is not None)
        passage = self._passages.get("iopub")
        if passage is not None and passage.held:
            passage.held = False
            self.reception.note_held()
        if message is None:
            return False
        try:
            parent = message["parent_header"].get("msg_id")
            if message["msg_type"] == "status":
                self._take_status(parent, message)
                return False
            return self.routing.take(message["msg_type"], parent, message)
        except Exception:  # noqa: BLE001 - a cell can publish anything
            self.reception.note_unreadable()
            return False

    def _take_status(self, parent: object, message: dict[str, Any]) -> None:
        if self._farewell is not None and message["content"].get(REPLY_MEMBER) == self._farewell:
            self._farewell = None
        if parent is None:
            return
        if parent == self._question:
            self._end.take_answer("iopub")
            self._answered.set()
        elif (
            self.routing.note_status(parent) and message["content"].get("execution_state") == "idle"
        ):
            self.idle.set()
            self._end.take_idle(message["content"], message["header"].get("date"))
            self._ask_if_doubtful()

    async def watch_stdin(self) -> None:
        """Note when the kernel asks for input although it was told that there is none."""
        incoming = Incoming(self.kc.stdin_channel, self._passages.get("stdin"))
        while True:
            message = (await incoming.next()).message
            if (
                message is not None
                and message["msg_type"] == "input_request"
                and not self.asked_for_input.done()
            ):
                self.asked_for_input.set_result(message)

    def answer_nothing(self) -> None:
        """Answer the question with empty text, so that the kernel wakes up."""
        question = self.asked_for_input.result()
        self.kc.stdin_channel.send(
            self.kc.session.msg("input_reply", {"value": ""}, parent=question)
        )


def _node(content: dict[str, Any]) -> NotebookNode:
    node: NotebookNode = nbformat.from_dict(content)  # type: ignore[no-untyped-call]
    return node
