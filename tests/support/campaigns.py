"""Campaigns: faults by the dozen, counted, with the worst time of each.

`NBLEDGER_CAMPAIGN` is their size: small (a minute or two), ci, or full (`make campaign`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SIZES = ("small", "ci", "full")
PROPERTY = "campaign"
"""Name of the property of a test report that holds a line for the summary."""

_GONE_SECONDS = 30.0


def size() -> str:
    """The size of this run's campaigns, one of SIZES."""
    found = os.environ.get("NBLEDGER_CAMPAIGN", SIZES[0])
    assert found in SIZES, f"NBLEDGER_CAMPAIGN must be one of {', '.join(SIZES)}"
    return found


def times(*, small: int, ci: int, full: int) -> int:
    """How often something is done at this run's size."""
    return {"small": small, "ci": ci, "full": full}[size()]


@dataclass
class Tally:
    """What a campaign has seen; `faults` must be empty at its end."""

    what: str
    bound: float
    """What the worst time may be, in seconds."""
    tell: Callable[[str, object], None]
    seconds: list[float] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        seed = secrets.randbits(32)
        self.random = random.Random(seed)
        self.what = f"{self.what} (seed {seed})"

    def took(self, seconds: float, end: str) -> None:
        """Count one fault that came to its end."""
        self.seconds.append(seconds)
        self.ends[end] = self.ends.get(end, 0) + 1
        self.expect(seconds <= self.bound, f"took {seconds:.2f} s: {end}")

    def expect(self, holds: bool, fault: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Note a fault unless this holds."""
        if not holds:
            self.faults.append(fault)

    async def repeat(
        self, count: int, trial: Callable[[int], Awaitable[None]], *, at_once: int
    ) -> None:
        """Run `trial` so often, some at once; one that breaks is a fault like any other."""
        numbers = iter(range(count))

        async def lane() -> None:
            for number in numbers:
                try:
                    await trial(number)
                except (Exception, TimeoutError) as error:  # noqa: BLE001 - the rest goes on
                    self.faults.append(f"number {number}: {error!r}")

        await asyncio.gather(*(lane() for _ in range(at_once)))

    def report(self, count: int) -> None:
        """Tell what was seen, for the summary of the test run."""
        ordered = sorted(self.seconds) or [float("nan")]
        ends = ", ".join(f"{number} {end}" for end, number in sorted(self.ends.items()))
        self.tell(
            PROPERTY,
            f"{self.what}: {len(self.seconds)} of {count}: {ends}; "
            f"median {ordered[len(ordered) // 2]:.2f} s, worst {ordered[-1]:.2f} s "
            f"of {self.bound:g} s; {len(self.faults)} faults",
        )


def conclude(count: int, *tallies: Tally) -> None:
    """Tell what was seen, and fail if anything was not as it has to be."""
    for tally in tallies:
        tally.report(count)
    faults = [f"{tally.what}: {fault}" for tally in tallies for fault in tally.faults]
    assert not faults, "\n".join(faults)
    assert [len(tally.seconds) for tally in tallies] == [count] * len(tallies)


def new_mark() -> str:
    """A name for the processes of one run, short enough for the kernel of the system."""
    return f"nb{secrets.token_hex(5)}"


def marking(mark: str) -> str:
    """Source of a cell that names its kernel, and starts a process in a session of its own.

    They are then known from outside, whatever namespaces they are in and whoever forked them.
    """
    name = "import ctypes; ctypes.CDLL(None).prctl(15, b{!r})"
    child = f"{name.format(mark + 'c')}; import time; time.sleep(900)"
    return (
        f"{name.format(mark)}\n"
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        "None"
    )


def marked(mark: str, *, children: bool = True) -> list[int]:
    """Processes that have named themselves so: the kernel, and what it started."""
    return [pid for pid, name in _names() if name == mark or (children and name == f"{mark}c")]


async def gone(mark: str) -> None:
    """Wait until no process of the run is left; whatever is, is killed, and raises TimeoutError."""
    try:
        async with asyncio.timeout(_GONE_SECONDS):
            while marked(mark):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.02)
    except TimeoutError:
        left = marked(mark)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise TimeoutError(f"{len(left)} processes were left over") from None


def _names() -> Iterator[tuple[int, str]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                yield int(entry.name), Path(entry.path, "comm").read_text().strip()


def code(*sources: str) -> dict[str, Any]:
    """The body that creates a notebook of these cells."""
    return {
        "notebookName": "campaign",
        "initialCells": [{"cellType": "code", "content": source} for source in sources],
    }
