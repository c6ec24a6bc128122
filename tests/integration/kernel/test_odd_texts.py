"""Text and objects of a notebook's own that Python allows and messages do not carry."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.kernels import code, recorded

from nbledger_workers.kernel.protocol import CellStatus, Outcome

pytestmark = pytest.mark.timeout(120)

OK, ERROR, SKIPPED = CellStatus.SUCCESS, CellStatus.ERROR, CellStatus.SKIPPED

_FLUSH = """
import sys
class Own:
    def write(self, text): pass
    def flush(self): raise {}
sys.stdout = Own()
"""


async def test_lone_surrogates_cost_neither_output_nor_reply(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "print('hello before'); print('\\ud800x'); print('after \\udc80')",
        code("raise ValueError('\\ud800 bad')", "raises-exception"),
        "get_ipython().set_next_input('\\ud800'); print('next')",
        "def f(): pass\nf.__doc__ = '\\ud800doc'",
        "get_ipython().run_line_magic('pinfo', 'f')",
        code(_FLUSH.format("ValueError('\\ud800')"), "raises-exception"),
        "display({'text/plain': '\\ud800', '\\ud800': [1, {'x': '\\udfff'}]}, raw=True)",
        timeout=40.0,
    )
    assert run.finished is not None
    assert (run.finished.outcome, run.finished.warnings) == (Outcome.COMPLETED, [])
    assert run.statuses == [OK] * 7
    assert run.text(0) == "hello before\n\ufffdx\nafter \ufffd\n"
    assert (run.cell(1).error_name, run.cell(1).error_value) == ("ValueError", "\ufffd bad")
    assert run.outputs(1)[0]["evalue"] == "\ufffd bad"
    assert run.text(2) == "next\n"
    assert "\ufffddoc" in run.outputs(4)[0]["data"]["text/plain"]
    assert (run.cell(5).error_name, run.cell(5).error_value) == ("ValueError", "\ufffd")
    assert run.outputs(6)[0]["data"] == {"text/plain": "\ufffd", "\ufffd": [1, {"x": "\ufffd"}]}


_TASKS = """
import asyncio, sys
async def wait(): await asyncio.Event().wait()
async def other(): await asyncio.Event().wait()
other.__qualname__ = '\\ud800bad'
third = lambda: other()
class Raises(asyncio.tasks._PyTask):
    def get_coro(self): raise ValueError('no')
class Exits(asyncio.tasks._PyTask):
    def cancelling(self): sys.exit(3)
class Name(str):
    def __getitem__(self, place): raise ValueError('no')
    def __hash__(self): sys.exit(4)
    def __lt__(self, other): sys.exit(5)
own = wait()
own.__qualname__ = Name('own')
left = [Raises(wait()), Exits(wait()), asyncio.create_task(other()), asyncio.create_task(own)]
"""


async def test_a_description_that_fails_costs_no_more_than_the_name(tmp_path: Path) -> None:
    run = await recorded(tmp_path, _TASKS, "print('next')", timeout=40.0)
    assert run.finished is not None
    assert (run.statuses, run.text(1)) == ([OK, OK], "next\n")
    (told,) = run.finished.warnings
    assert told == (
        "4 asyncio tasks that the notebook left pending had to be cut when it ended: "
        "own, wait, \ufffdbad."
    )


_CAPTURES = """
try: 1 / 0
except Exception: get_ipython().showtraceback()
get_ipython()._showtraceback = lambda *arguments: None
raise SystemExit
"""


async def test_a_clean_exit_takes_away_no_error_but_its_own(tmp_path: Path) -> None:
    run = await recorded(tmp_path, _CAPTURES, "print('never')", timeout=40.0)
    assert run.statuses == [OK, SKIPPED]
    assert run.cell(0).error_name is None
    assert [output["ename"] for output in run.outputs(0)] == ["ZeroDivisionError"]


_HOOK = """
def hook():
    get_ipython().events.unregister('post_execute', hook)
    raise SystemExit(0)
get_ipython().events.register('post_execute', hook)
"""


async def test_an_exit_of_what_is_no_cell_costs_no_reply(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        _HOOK,
        _FLUSH.format("SystemExit(3)"),
        "class Code(SystemExit):\n    code = property(lambda self: 1 / 0)\nraise Code(0)",
        "class Exits(SystemExit):\n    @property\n    def code(self): raise SystemExit(0)\n"
        "raise Exits(0)",
        "class Number(int):\n    def __int__(self): return 0\n    __index__ = __int__\n"
        "raise SystemExit(Number(7))",
        "get_ipython().payload_manager.write_payload({'source': 'own', 'value': object()})",
        "print('next')",
        continue_on_error=True,
        timeout=40.0,
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.statuses == [*[ERROR] * 6, OK]
    assert run.text(6) == "next\n"
