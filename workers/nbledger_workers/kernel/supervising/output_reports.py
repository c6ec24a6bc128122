"""Reports what cells put out, before they end and after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nbledger_workers.kernel.channels.routing import Routing
from nbledger_workers.kernel.outputs.collector import OutputCollector
from nbledger_workers.kernel.protocol import OutputPart, OutputsSoFar, OutputsUpdated, UpMessage

Send = Callable[[UpMessage], Awaitable[None]]


class OutputReports:
    """Sends the outputs that `routing` has gathered."""

    def __init__(self, send: Send, routing: Routing) -> None:
        self._send = send
        self._routing = routing

    async def parts(self, index: int, collector: OutputCollector) -> None:
        """Send the parts of long text that change no more."""
        while (part := collector.take_part()) is not None:
            number, data = part
            await self._send(OutputPart(index=index, number=number, data=data))

    async def so_far(self, index: int, collector: OutputCollector) -> None:
        """Report what the running cell has put out, where there is something new."""
        await self.changed()
        await self.parts(index, collector)
        unchanged = collector.changes()
        if unchanged is not None:
            await self._send(
                OutputsSoFar(
                    index=index,
                    unchanged=unchanged,
                    outputs=collector.outputs(unchanged),
                    output_bytes=collector.output_bytes,
                    output_count=collector.output_count,
                    truncated=collector.truncated,
                )
            )

    async def changed(self) -> None:
        """Report earlier cells whose outputs have changed."""
        changed, self._routing.changed = sorted(self._routing.changed), set()
        for index in changed:
            collector = self._routing.collectors[index]
            await self._send(
                OutputsUpdated(
                    index=index,
                    outputs=collector.outputs(),
                    output_bytes=collector.output_bytes,
                    output_count=collector.output_count,
                    outputs_digest=collector.digest(),
                    truncated=collector.truncated,
                )
            )
