"""One cell at a time on a started kernel: its request, its reply, and its outputs in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from jupyter_client.asynchronous.client import AsyncKernelClient

from nbledger_workers.kernel.outputs import OUTPUT_MESSAGES, OutputCollector

# From the reply to the last output, or the other way round; a dead kernel ends it sooner.
_LAST_SECONDS: Final = 300.0
_MESSAGES_BETWEEN_OTHERS: Final = 50

_DISPLAYS: Final = frozenset({"update_display_data", "display_data", "execute_result"})


class CellClient:
    """Executes cells and gathers what they put out.

    Output that comes from a thread which has outlived its cell is kept with the cell that runs
    when it comes. `changed` are earlier cells of which a display was updated.
    """

    def __init__(self, client: AsyncKernelClient) -> None:
        self.collectors: dict[int, OutputCollector] = {}
        self.changed: set[int] = set()
        self.executing = asyncio.Event()
        self.asked_for_input: asyncio.Future[dict[str, Any]]
        self.asked_for_input = asyncio.get_running_loop().create_future()
        self._client = client
        self._index = -1

    def begin(self, index: int, collector: OutputCollector) -> None:
        """Make the cell at `index` the one that runs; call it before `execute`."""
        self._index = index
        self.collectors[index] = collector
        self.executing.clear()
        if self.asked_for_input.done():
            self.asked_for_input = asyncio.get_running_loop().create_future()

    async def execute(
        self, source: str, *, on_output: Callable[[], Awaitable[None]]
    ) -> dict[str, Any]:
        """Run a cell to its end and return the content of the kernel's reply.

        `on_output` is awaited after every output. Raises TimeoutError when the kernel either
        replies or says that it is done, but not both.
        """
        request = self._client.session.msg(
            "execute_request",
            {
                "code": source,
                "silent": False,
                "store_history": True,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": False,
            },
        )
        self._client.shell_channel.send(request)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:

            def last_wait(_: object) -> None:
                limit.reschedule(loop.time() + _LAST_SECONDS)

            replying = asyncio.create_task(self._reply(request["header"]["msg_id"]))
            replying.add_done_callback(last_wait)
            try:
                await self._until_idle(request["header"]["msg_id"], on_output)
                last_wait(None)
                return await replying
            finally:
                replying.remove_done_callback(last_wait)
                replying.cancel()

    async def watch_stdin(self) -> None:
        """Note when the kernel asks for input although it was told that there is none."""
        channel = self._client.stdin_channel
        while True:
            message = await _receive(channel)
            if message["msg_type"] == "input_request" and not self.asked_for_input.done():
                self.asked_for_input.set_result(message)

    def answer_nothing(self) -> None:
        """Answer the question with empty text, so that the kernel wakes up."""
        question = self.asked_for_input.result()
        self._client.stdin_channel.send(
            self._client.session.msg("input_reply", {"value": ""}, parent=question)
        )

    async def _reply(self, request_id: str) -> dict[str, Any]:
        channel = self._client.shell_channel
        while True:
            message = await _receive(channel)
            if message["parent_header"].get("msg_id") == request_id:
                content: dict[str, Any] = message["content"]
                return content

    async def _until_idle(self, request_id: str, on_output: Callable[[], Awaitable[None]]) -> None:
        channel = self._client.iopub_channel
        count = 0
        while True:
            message = await _receive(channel)
            kind = message["msg_type"]
            if kind == "status":
                if (
                    message["content"]["execution_state"] == "idle"
                    and message["parent_header"].get("msg_id") == request_id
                ):
                    return
            elif kind == "execute_input":
                self.executing.set()
            elif self._take(kind, message):
                await on_output()
            count += 1
            if count % _MESSAGES_BETWEEN_OTHERS == 0:
                # Messages that wait are received without giving way to anything else.
                await asyncio.sleep(0)

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


async def _receive(channel: Any) -> dict[str, Any]:
    parts = await channel.socket.recv_multipart()
    _, parts = channel.session.feed_identities(parts)
    message: dict[str, Any] = channel.session.deserialize(parts)
    return message
