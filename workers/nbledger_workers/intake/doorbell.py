"""The sign that something may be there to be taken."""

import asyncio

from nbledger_infrastructure.commands import Command


class Doorbell:
    """Rung by whoever knows of news: a command has come, or a run has ended."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._newest: Command | None = None

    def ring(self, command: Command | None = None) -> None:
        """There may be something to take, such as what this command is about."""
        self._newest = command
        self._rung.set()

    def answer(self) -> Command | None:
        """The newest command; whoever looks from now on sees all that it was rung for."""
        self._rung.clear()
        newest, self._newest = self._newest, None
        return newest

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, or for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            pass
