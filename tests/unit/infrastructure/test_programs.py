"""Programs: what they print is bounded, and nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import sys

import psutil
import pytest

from nbledger_infrastructure.programs import OutputTooLargeError, Program

ENV = {"PATH": os.environ["PATH"]}


def python(text: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", text]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def until_gone(*pids: int) -> None:
    async with asyncio.timeout(20):
        while not all(map(is_gone, pids)):  # noqa: ASYNC110 - not our children: there is no event
            await asyncio.sleep(0.01)


async def test_what_goes_in_and_comes_out_is_whole() -> None:
    echo = (
        "import sys; sys.stdout.write(sys.stdin.read()); "
        "sys.stderr.write('a\\nthe end'); sys.exit(3)"
    )
    content = b"x" * 3_000_000
    async with await Program.start(python(echo), env=ENV, stdin=True) as program:
        finished = await program.finish(content)
    assert (finished.status, finished.output) == (3, content)
    assert finished.last_line == "the end"
    assert program.status == 3


async def test_a_program_that_reads_nothing_says_so_by_its_status() -> None:
    async with await Program.start(python("raise SystemExit(4)"), env=ENV, stdin=True) as program:
        finished = await program.finish(b"x" * 3_000_000)
    assert (finished.status, finished.last_line) == (4, "status 4")


async def test_too_much_output_is_refused_and_errors_are_cut() -> None:
    endless = "import sys\nwhile True: sys.stdout.write('x' * 10000)"
    async with await Program.start(python(endless), env=ENV) as program:
        with pytest.raises(OutputTooLargeError):
            await program.finish(most_bytes=100_000)
    assert program.status == -9
    chatty = "import sys; sys.stderr.write('x' * 1000000 + '\\nlast')"
    async with await Program.start(python(chatty), env=ENV) as program:
        finished = await program.finish()
    assert len(finished.errors) <= 64 * 1024
    assert finished.last_line == "last"


HEAD = """
import subprocess, sys
command = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(command, stdout={stdout}, stderr={stdout})
print(child.pid, flush=True)
{then}
"""


async def test_what_it_has_started_ends_with_it() -> None:
    # By whom it is ended: a caller that is cancelled, and one that waits too long.
    waits = python(HEAD.format(stdout="None", then="child.wait()"))

    async def use(started: asyncio.Future[tuple[int, int]]) -> None:
        async with await Program.start(waits, env=ENV) as program:
            started.set_result((program.pid, int(await program.read(100))))
            await program.finish()

    started: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    using = asyncio.create_task(use(started))
    pids = await started
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    await until_gone(*pids)
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(pids[0])

    started = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await use(started)
    await until_gone(*await started)


async def test_what_it_leaves_behind_ends_when_it_has_ended() -> None:
    leaves = HEAD.format(stdout="subprocess.DEVNULL", then="")
    async with await Program.start(python(leaves), env=ENV) as program:
        finished = await program.finish()
        assert finished.status == 0
        await until_gone(int(finished.output))


async def test_what_holds_its_output_open_ends_when_nobody_waits_any_more() -> None:
    leaves = HEAD.format(stdout="None", then="")
    async with await Program.start(python(leaves), env=ENV) as program:
        pid = int(await program.read(100))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(program.finish(), 1)
    await until_gone(pid)


async def test_lines_are_answered_until_the_program_ends() -> None:
    answers = "for _ in range(2): print(input().upper(), flush=True)"
    async with await Program.start(python(answers), env=ENV, stdin=True) as program:
        assert await program.ask(b"a") == b"A\n"
        assert await program.ask(b"b") == b"B\n"
        assert (await program.finish()).status == 0
