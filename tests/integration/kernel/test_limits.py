"""Limits of a run: each ends it at once, with its own outcome, and says what was used."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest
from support.kernels import Recorded, recorded, request

from nbledger_workers.kernel.processes.family import Family
from nbledger_workers.kernel.protocol import CellStatus, Heartbeat, Limits, Outcome
from nbledger_workers.kernel.resources.usage import UsageSampler

pytestmark = pytest.mark.stalls("its runs are stopped by the clock, in steps of seconds")

OK, SKIPPED, ERROR = CellStatus.SUCCESS, CellStatus.SKIPPED, CellStatus.ERROR
MB = 1_000_000


def _assert_ended(run: Recorded, outcome: Outcome, error: str, *words: str) -> None:
    """The first cell stays, the second was ended for the limit, the third never ran."""
    assert run.finished is not None
    assert run.finished.outcome is outcome
    assert run.statuses == [OK, ERROR, SKIPPED]
    assert run.text(0) == "kept\n"
    ended = run.cell(1)
    assert ended.error_name == error
    assert ended.error_value == run.finished.detail
    for word in words:
        assert word in run.finished.detail


@pytest.mark.guarantee("G12")
async def test_a_run_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    hog = "import time\nheld = []\nwhile True: held.append(bytearray(8_000_000)); time.sleep(0.03)"
    run = await recorded(
        tmp_path, "print('kept')", hog, "3", limits=Limits(memory_bytes=300 * MB), timeout=60
    )
    _assert_ended(run, Outcome.MEMORY_LIMIT, "MemoryLimitExceeded", "of memory", "300 MB")
    assert run.finished is not None
    # Seen in time: it takes at most 270 MB a second.
    assert 300 * MB < run.finished.peak_memory_bytes < 900 * MB


async def test_memory_of_what_it_starts_counts(tmp_path: Path) -> None:
    hog = (
        "import subprocess, sys\n"
        "code = 'import time; held = bytearray(120_000_000); time.sleep(30)'\n"
        "for _ in range(3):\n"
        "    subprocess.Popen([sys.executable, '-c', code], start_new_session=True)\n"
        "import time; time.sleep(30)"
    )
    run = await recorded(
        tmp_path, "print('kept')", hog, "3", limits=Limits(memory_bytes=400 * MB), timeout=30
    )
    _assert_ended(run, Outcome.MEMORY_LIMIT, "MemoryLimitExceeded", "400 MB")


async def test_forks_that_share_their_memory_are_not_counted_as_if_they_did_not(
    tmp_path: Path,
) -> None:
    fork = (
        "import os, time\n"
        "held = bytes(range(256)) * 400_000\n"
        "pids = []\n"
        "for _ in range(5):\n"
        "    pid = os.fork()\n"
        "    if pid == 0: time.sleep(1); os._exit(0)\n"
        "    pids.append(pid)\n"
        "for pid in pids: os.waitpid(pid, 0)"
    )
    run = await recorded(tmp_path, fork, limits=Limits(memory_bytes=500 * MB), timeout=60)
    assert run.finished is not None
    assert run.statuses == [OK], run.finished.detail


@pytest.mark.guarantee("G12")
async def test_a_run_that_computes_too_long_is_ended(tmp_path: Path) -> None:
    burn = "while True: pass"
    run = await recorded(
        tmp_path, "print('kept')", burn, "3", limits=Limits(cpu_seconds=3), timeout=60
    )
    _assert_ended(run, Outcome.CPU_LIMIT, "CpuLimitExceeded", "CPU time", "3 seconds")
    assert run.finished is not None
    assert 3.0 < run.finished.cpu_seconds < 6.0


async def test_sleeping_costs_no_cpu_time(tmp_path: Path) -> None:
    run = await recorded(tmp_path, "import time; time.sleep(2.5)", timeout=60)
    assert run.finished is not None
    resources = run.cell(0).resources
    assert resources is not None
    assert resources.cpu_seconds < 0.7
    assert resources.cpu_seconds <= run.finished.cpu_seconds


@pytest.mark.guarantee("G12")
async def test_a_fork_bomb_is_ended(tmp_path: Path) -> None:
    # Bounded by itself, should the limit not hold.
    bomb = (
        "import os, time\n"
        "for _ in range(400):\n"
        "    if os.fork() == 0: os.setsid(); time.sleep(20); os._exit(0)\n"
        "    time.sleep(0.01)\n"
        "time.sleep(20)"
    )
    run = await recorded(
        tmp_path, "print('kept')", bomb, "3", limits=Limits(processes=20), timeout=60
    )
    _assert_ended(run, Outcome.PROCESS_LIMIT, "ProcessLimitExceeded", "processes", "limit is 20")


_MANY = """
import os, time
def start(count):
    for _ in range(count):
        if os.fork() == 0:
            while not os.path.exists('grow'): time.sleep(0.2)
            held = bytearray(b'x') * 4_000_000
            open(f'grown-{{os.getpid()}}', 'w').close(); time.sleep(20); os._exit(0)
start(120)
time.sleep(1)
{further}
time.sleep(4)
print('survived')
"""
_GROW = """
open('grow', 'w').close()
while sum(name.startswith('grown-') for name in os.listdir()) < 120: time.sleep(0.1)
"""


async def test_a_limit_holds_however_much_there_is_to_look_at(tmp_path: Path) -> None:
    # What shares its memory takes long to be looked at, and is not looked at again for seconds.
    many = _MANY.format(further="start(60)")
    run = await recorded(
        tmp_path, "print('kept')", many, "3", limits=Limits(processes=150), timeout=120
    )
    _assert_ended(run, Outcome.PROCESS_LIMIT, "ProcessLimitExceeded", "processes", "limit is 150")

    grow = _MANY.format(further=_GROW)
    run = await recorded(
        tmp_path, "print('kept')", grow, "3", limits=Limits(memory_bytes=500 * MB), timeout=120
    )
    _assert_ended(run, Outcome.MEMORY_LIMIT, "MemoryLimitExceeded", "of memory", "500 MB")

    files = (
        "import os, time\nos.mkdir('many')\n"
        "for number in range(15_000):\n"
        "    with open(f'many/{number}', 'w') as file: file.write('x')\n"
        "time.sleep(1)\n"
        "open('large', 'wb').write(bytes(60_000_000))\n"
        "time.sleep(4)"
    )
    run = await recorded(
        tmp_path, "print('kept')", files, "3", limits=Limits(disk_bytes=100 * MB), timeout=120
    )
    _assert_ended(run, Outcome.DISK_LIMIT, "DiskLimitExceeded", "of disk", "100 MB")


async def test_a_bomb_of_processes_that_all_fork_is_ended_as_it_grows(tmp_path: Path) -> None:
    # Of 512 processes at the most: each forks nine times.
    bomb = "import os, time\nfor _ in range(9): os.fork()\ntime.sleep(20)"
    run = await recorded(
        tmp_path, "print('kept')", bomb, "3", limits=Limits(processes=100), timeout=120
    )
    _assert_ended(run, Outcome.PROCESS_LIMIT, "ProcessLimitExceeded", "processes", "limit is 100")


@pytest.mark.guarantee("G12")
async def test_a_run_that_fills_the_disk_is_ended(tmp_path: Path) -> None:
    fill = (
        "import time\n"
        "for number in range(200):\n"
        "    open(f'part-{number}', 'wb').write(bytes(1_000_000)); time.sleep(0.04)\n"
        "time.sleep(20)"
    )
    run = await recorded(
        tmp_path, "print('kept')", fill, "3", limits=Limits(disk_bytes=20 * MB), timeout=60
    )
    _assert_ended(run, Outcome.DISK_LIMIT, "DiskLimitExceeded", "of disk", "20 MB")
    assert run.finished is not None
    assert 20 * MB < run.finished.disk_bytes < 150 * MB


async def test_resources_are_told_of_each_cell_and_while_it_runs(tmp_path: Path) -> None:
    spike = "held = bytearray(200_000_000); del held"
    write = (
        "open('data', 'wb').write(bytes(30_000_000))\n"
        "import pathlib, time\n"
        "while not pathlib.Path('seen').exists(): time.sleep(0.01)"
    )

    def take(usage: Heartbeat) -> None:
        # Without being told of it the cell would never end.
        run.usages.append(usage)
        if usage.disk_bytes >= 30 * MB:
            (tmp_path / "seen").touch()

    run = Recorded(request(tmp_path, "x = 1", spike, "y = 2", write), on_usage=take)
    await run.result()
    assert run.finished is not None
    cells = [run.cell(index).resources for index in range(4)]
    first, second, third, fourth = (each for each in cells if each is not None)
    # No sample falls into so short a peak; the system's own mark of it is read.
    assert second.peak_memory_bytes > first.peak_memory_bytes + 190 * MB
    assert third.peak_memory_bytes < second.peak_memory_bytes - 150 * MB
    assert run.finished.peak_memory_bytes == second.peak_memory_bytes
    assert fourth.disk_bytes >= 30 * MB > third.disk_bytes
    assert run.finished.disk_bytes >= 30 * MB
    assert sum(each.cpu_seconds for each in (first, second, third, fourth)) <= (
        run.finished.cpu_seconds + 0.001
    )
    assert run.usages[-1].peak_memory_bytes == second.peak_memory_bytes
    assert run.usages[-1].disk_bytes >= 30 * MB


async def test_a_kernel_that_was_killed_for_another_reason_is_no_limit(tmp_path: Path) -> None:
    die = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    run = await recorded(
        tmp_path, "print('kept')", die, "3", limits=Limits(memory_bytes=2000 * MB), timeout=30
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.KERNEL_DIED
    assert run.statuses == [OK, ERROR, SKIPPED]


async def test_processor_time_of_orphans_and_of_waited_children_is_counted_once(
    tmp_path: Path,
) -> None:
    burn = "import time; until = time.process_time() + 1\\nwhile time.process_time() < until: pass"
    program = (
        f"import subprocess, sys\nburn = '''{burn}'''\n"
        "subprocess.run([sys.executable, '-c', burn])\nimport time; time.sleep(0.4)"
    )
    run = await recorded(tmp_path, program, timeout=60)
    resources = run.cell(0).resources
    assert resources is not None
    assert 0.9 < resources.cpu_seconds < 1.8


async def test_looking_at_an_idle_kernel_costs_less_than_a_hundredth_of_a_processor(
    tmp_path: Path,
) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "30")
    sampler = UsageSampler(str(tmp_path))
    sampler.begin(process.pid)

    async def send(_: object) -> None:
        pass

    async def share() -> float:
        spent, begun = time.process_time(), time.monotonic()
        await asyncio.sleep(1.5)
        return (time.process_time() - spent) / (time.monotonic() - begun)

    watching = asyncio.create_task(sampler.watch(send))
    try:
        shares = [await share()]
        while min(shares) >= 0.02 and len(shares) < 6:
            shares.append(await share())
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        process.kill()
        await process.wait()
    # Twice that, and the best of a few, for what else this process does meanwhile.
    assert min(shares) < 0.02


async def test_a_cell_pays_next_to_nothing_for_being_measured(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "30")
    try:
        sampler = UsageSampler(str(tmp_path))
        sampler.begin(process.pid)
        each = []
        for _ in range(5):
            begun = time.process_time()
            for _ in range(40):
                sampler.cell_begins()
                assert sampler.cell_ends() is not None
            each.append((time.process_time() - begun) / 40)
    finally:
        process.kill()
        await process.wait()
    assert min(each) < 0.002


def test_processes_of_a_family_are_found_in_any_session() -> None:
    program = "import os, time\nif os.fork() == 0: os.setsid()\nprint(flush=True); time.sleep(30)"
    process = psutil.Popen(["python3", "-c", program], stdout=-1, start_new_session=True)
    try:
        for _ in range(2):
            process.stdout.readline()
        family = Family(process.pid)
        members = family.members()
        assert {each.pid for each in members} == {
            process.pid,
            *(child.pid for child in process.children(recursive=True)),
        }
        assert len(members) >= 2
        assert os.getpid() not in {each.pid for each in members}
    finally:
        for each in [*process.children(recursive=True), process]:
            each.kill()
        process.wait()
        process.stdout.close()
