"""Priorities, retries, the limit of waiting, and work whose command never came."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import pytest
from support.executions import TERMINAL, Stage

from nbledger_domain.execution import Execution, ExecutionStatus, RetryPolicy, TerminationCode
from nbledger_infrastructure import settings
from nbledger_workers.intake.turns import SHARE


async def started(scene: Stage, execution_ids: list[UUID]) -> list[UUID]:
    """These, in the order in which they were claimed."""
    at: dict[UUID, int] = {}
    for execution_id in execution_ids:
        history = await scene.history(execution_id)
        at[execution_id] = next(
            recorded.position for recorded in history if recorded.type == Execution.Claimed.TYPE
        )
    return sorted(execution_ids, key=at.__getitem__)


@pytest.mark.timeout(180)
async def test_high_overtakes_and_low_gets_its_share(scene: Stage) -> None:
    first = await scene.request("import time; time.sleep(60)")
    async with scene.worker(concurrency=1):
        await scene.command(first)
        await scene.until(first, lambda execution: execution.running_cell is not None)
        names = {
            await scene.request(priority=priority): priority
            for _ in range(6)
            for priority in ("Low", "Normal", "High")
        }
        await scene.command(*names)
        await scene.cancel(first)
        for execution_id in names:
            await scene.until(execution_id, seconds=120)
    order = [names[execution_id] for execution_id in await started(scene, list(names))]
    assert order[:6] == ["High"] * 6, order
    assert "Low" in order[6 : SHARE + 1], order
    assert order[6:].index("Low") < len(order) - order[::-1].index("Normal") - 1


async def test_work_without_its_command_is_found(scene: Stage) -> None:
    before = await scene.request("1")
    async with scene.worker():
        assert (await scene.until(before, seconds=20)).status is ExecutionStatus.COMPLETED
        while_idle = await scene.request("2")
        await scene.until(while_idle, lambda execution: execution.epoch > 0, seconds=20)


@asynccontextmanager
async def told_whether_first() -> AsyncIterator[Callable[[str], str]]:
    """Gives the source of a cell that does something in its first attempt only.

    A kernel has no folder in common with the one before it, so it asks here.
    """
    async with AsyncExitStack() as stack:
        servers: list[asyncio.Server] = []

        def fails_once(how: str) -> str:
            asked = 0

            async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                nonlocal asked
                asked += 1
                writer.write(b"1" if asked == 1 else b"0")
                writer.close()
                await writer.wait_closed()

            listening = socket.create_server(("127.0.0.1", 0))
            port = listening.getsockname()[1]
            stack.push_async_callback(close, asyncio.create_task(serve(answer, listening)))
            return (
                "import os, socket, time\n"
                f"first = socket.create_connection(('127.0.0.1', {port})).recv(1) == b'1'\n"
                f"if first: {how}\n"
            )

        async def serve(answer: Any, listening: socket.socket) -> None:
            server = await asyncio.start_server(answer, sock=listening)
            servers.append(server)

        async def close(starting: asyncio.Task[None]) -> None:
            await starting
            servers.pop().close()

        yield fails_once


async def test_a_run_begins_anew_only_as_its_policy_says(scene: Stage) -> None:
    async with told_whether_first() as fails_once:
        await begin_anew(scene, fails_once)


async def begin_anew(scene: Stage, fails_once: Callable[[str], str]) -> None:
    def policy(*ends: str) -> RetryPolicy:
        return msgspec.convert({"maxAttempts": 2, "retryOn": ends}, RetryPolicy)

    again = {
        "error": await scene.request(
            fails_once("1/0"), retry_policy=policy("cell_error", "kernel_died")
        ),
        "death": await scene.request(fails_once("os._exit(3)"), retry_policy=policy("kernel_died")),
        "slow": await scene.request(
            fails_once("time.sleep(60)"),
            cell_timeout=3.0,
            retry_policy=policy("cell_timeout"),
        ),
    }
    never = await scene.request(fails_once("1/0"), retry_policy=policy("kernel_died"))
    always = await scene.request("1/0", retry_policy=policy("cell_error"))
    async with scene.worker(), scene.sweeper():
        await scene.command(*again.values(), never, always)
        for name, execution_id in again.items():
            execution = await scene.until(execution_id, seconds=60)
            assert (execution.status, execution.epoch) == (ExecutionStatus.COMPLETED, 2), name
            types = [recorded.type for recorded in await scene.history(execution_id)]
            assert sum(each in TERMINAL for each in types) == 1
            assert types.count(Execution.AttemptLost.TYPE) == 1
        execution = await scene.until(never)
        assert (execution.termination_code, execution.epoch) == (TerminationCode.CELL_ERROR, 1)
        execution = await scene.until(always)
        assert (execution.termination_code, execution.epoch) == (TerminationCode.CELL_ERROR, 2)


async def test_an_ending_worker_hands_back_what_may_run_again(scene: Stage) -> None:
    allowed = RetryPolicy(max_attempts=3, retry_on=("worker_lost",))
    execution_id = await scene.request("import time; time.sleep(60)", retry_policy=allowed)
    async with scene.worker(concurrency=1):
        await scene.command(execution_id)
        await scene.until(execution_id, lambda execution: execution.running_cell is not None)
    execution = await scene.until(execution_id, lambda _: True)
    assert execution.phase == "Queued"
    assert await scene.types(execution_id) == [
        "requested",
        "claimed",
        "started",
        "cell-started",
        "attempt-lost",
    ]


async def test_what_waits_too_long_is_ended(scene: Stage) -> None:
    scene.settings = msgspec.structs.replace(
        scene.settings, limits=settings.RunLimits(queue_seconds=1)
    )
    execution_id = await scene.request("1")
    async with scene.sweeper():
        execution = await scene.until(execution_id, seconds=20)
    assert execution.termination_code is TerminationCode.QUEUE_TIMEOUT
    assert await scene.types(execution_id) == ["requested", "timed-out"]
