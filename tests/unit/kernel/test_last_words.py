"""What is told of a kernel's last words, and what is not."""

from __future__ import annotations

import pytest
from ipykernel import kernelapp

from nbledger_workers.kernel.channels.cell_end import Told
from nbledger_workers.kernel.supervising.ending import cut_processes, cut_tasks
from nbledger_workers.kernel.supervising.last_words import last_words

# What the installed ipykernel prints when it starts.
GREETING = (
    f"{kernelapp._ctrl_c_message}\n"
    "To connect another client to this kernel, use:\n"
    "    --existing k.json\n"
)
WARNING = (
    "[IPKernelApp] WARNING | Kernel is running over TCP without encryption. All communication"
    " (including code and outputs) is sent in plain text and is susceptible to eavesdropping.\n"
)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", ""),
        (GREETING, ""),
        (WARNING + GREETING, ""),
        (f"{GREETING}No memory\n\nin native code\n", "No memory\n\nin native code"),
        (f"first\n{GREETING}then {WARNING}last", "first\nlast"),
        ("To exit, press any key", "To exit, press any key"),
        (GREETING + "x" * 5000, "x" * 2000),
    ],
)
def test_a_greeting_is_no_last_word(written: str, told: str) -> None:
    assert last_words(written.encode()) == told


@pytest.mark.parametrize(
    ("left", "count", "named"),
    [
        ({"sleep": 1}, "1 process", ": sleep"),
        ({"b": 2, "a": 1}, "3 processes", ": a, b"),
        ({"": 2}, "2 processes", ""),
        ({"sleep": 100, "": 1900}, "2,000 processes", ": sleep and others"),
        (dict.fromkeys("abcdefg", 1), "7 processes", ": a, b, c, d, e and others"),
    ],
)
def test_processes_that_were_cut_are_counted(left: dict[str, int], count: str, named: str) -> None:
    told = f"{count} that the notebook left running had to be ended when it ended{named}."
    assert cut_processes(left) == [told]


def test_nothing_is_told_where_no_process_was_cut() -> None:
    assert cut_processes({}) == []


def test_names_of_tasks_are_told_with_nothing_in_them_that_is_not_seen() -> None:
    (told,) = cut_tasks(Told(tasks=2, task_names=["a\nb\x1b[31m\0c\u202e", "fetch"]))
    assert told == (
        "2 asyncio tasks that the notebook left pending had to be cut when it ended: "
        "a\ufffdb\ufffd[31m\ufffdc\ufffd, fetch."
    )
