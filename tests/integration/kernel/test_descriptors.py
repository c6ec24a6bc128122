"""What cells write to, read from and do to the kernel's descriptors."""

from __future__ import annotations

import re
from pathlib import Path

from support.kernels import recorded

from nbledger_workers.kernel.protocol import CellStatus, Outcome

OK, ERROR, SKIPPED = CellStatus.SUCCESS, CellStatus.ERROR, CellStatus.SKIPPED


async def test_what_is_written_past_sys_stdout_is_in_the_cell_that_wrote_it(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "import ctypes, os, subprocess, sys\n"
        "sys.stdout = open('log.txt', 'w'); print('to the file'); sys.stdout.close()\n"
        "sys.stdout = sys.__stdout__; print('restored')",
        "print('B', end='')",
        "os.write(1, b'by number\\n'); os.write(2, b'error\\n')",
        "ctypes.CDLL(None).puts(b'by C')",
        "subprocess.run(['sh', '-c', 'echo child; echo worse >&2'])\nNone",
        "os.write(1, '€'.encode() * 200_000); os.write(1, '€'.encode()[:2])\nNone",
        "from IPython.utils import capture\n"
        "import io; sys.stdout = io.StringIO(); print('nowhere'); os.write(1, b'past it')\nNone",
        "1",
    )
    assert run.statuses == [OK] * 8
    texts = [run.text(index) for index in range(8)]
    assert texts[:5] == ["restored\n", "B", "by number\n", "by C\n", "child\n"]
    # Of three bytes each, which the system hands over in pieces of other lengths.
    assert texts[5] == "€" * 200_000 + "�"
    assert texts[6:] == ["past it", ""]
    assert [run.text(index, "stderr") for index in (2, 4)] == ["error\n", "worse\n"]
    assert (tmp_path / "log.txt").read_text() == "to the file\n"


async def test_a_cell_that_breaks_its_streams_has_an_error_and_the_next_ones_work(
    tmp_path: Path,
) -> None:
    run = await recorded(
        tmp_path,
        "import io, os, sys\nos.close(1); os.close(2)",
        "os.system('echo again; echo there >&2')\nNone",
        "sys.stdout = sys.__stdout__; os.close(1); print('lost?')",
        "print('back')",
        "class Tee:\n    def write(self, text): pass\nsys.stdout = Tee()",
        "print('back again')",
        "sys.stderr = open(os.devnull); sys.stderr.close()",
        "os.close(0)",
        "!cat",
        "sys.stdout = io.StringIO()",
        continue_on_error=True,
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.statuses == [ERROR, OK, ERROR, OK, ERROR, OK, ERROR, ERROR, OK, OK]
    first = run.cell(0)
    assert first.error_name == "OSError"
    assert first.error_value == (
        "the cell closed the kernel's standard output (descriptor 1) and standard error"
        " (descriptor 2), which is open again now"
    )
    assert run.outputs(0)[-1]["output_type"] == "error"
    assert (run.text(1), run.text(1, "stderr")) == ("again\n", "there\n")
    assert run.text(3) == "back\n"
    assert (run.cell(4).error_name, run.text(5)) == ("AttributeError", "back again\n")
    assert run.cell(6).error_name == "ValueError"


async def test_a_file_that_has_got_the_number_of_a_stream_gets_no_output_of_others(
    tmp_path: Path,
) -> None:
    run = await recorded(
        tmp_path,
        "import os, subprocess\nos.close(1); taken = open('taken.txt', 'w')",
        "taken.fileno(), subprocess.run(['echo', 'child'])\nNone",
        # On purpose it stays redirected, over cells.
        "kept = os.dup(1); log = open('log.txt', 'w'); os.dup2(log.fileno(), 1)\nNone",
        "subprocess.run(['echo', 'logged'])\nNone",
        "os.dup2(kept, 1); subprocess.run(['echo', 'shown'])\nNone",
        continue_on_error=True,
    )
    assert run.statuses == [ERROR, *[OK] * 4]
    assert run.cell(0).error_value == (
        "the cell closed the kernel's standard output (descriptor 1), which is open again now"
    )
    assert [run.text(index) for index in range(1, 5)] == ["child\n", "", "", "shown\n"]
    assert (tmp_path / "taken.txt").read_text() == ""
    assert (tmp_path / "log.txt").read_text() == "logged\n"


async def test_a_cell_that_closes_its_streams_keeps_what_it_has_printed(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "import io, sys, warnings\nfor i in range(10_000): print('line', i)\nsys.stdout.close()",
        "print('second')",
        "sys.stderr.close()",
        "warnings.warn('told')",
        "sys.stdout = io.StringIO(); sys.stdout.close()",
        "print('last')",
        continue_on_error=True,
    )
    assert run.statuses == [ERROR, OK, ERROR, OK, ERROR, OK]
    assert run.text(0).splitlines() == [f"line {number}" for number in range(10_000)]
    assert run.cell(0).error_value == "the cell closed sys.stdout, which is open again now"
    assert [run.text(index) for index in (1, 5)] == ["second\n", "last\n"]
    assert "told" in run.text(3, "stderr")
    assert run.cell(4).error_name == "ValueError"


async def test_a_cell_s_own_error_is_told_whatever_it_has_made_of_its_streams(
    tmp_path: Path,
) -> None:
    run = await recorded(
        tmp_path,
        "import os, sys\nsys.stdout = open('log.txt', 'w'); sys.stdout.close()\n1/0",
        "sys.stdout = None; print('nowhere')",
        "print('back')",
        "sys.stdout = None\n1/0",
        "sys.stdout = sys.__stdout__; os.close(1)\n1/0",
        "print('back again')",
        continue_on_error=True,
    )
    assert run.statuses == [ERROR, OK, OK, ERROR, ERROR, OK]
    for index in (0, 3, 4):
        assert run.cell(index).error_name == "ZeroDivisionError"
        (error,) = [each for each in run.outputs(index) if each["output_type"] == "error"]
        assert error["ename"] == "ZeroDivisionError"
        assert "division by zero" in "\n".join(error["traceback"])
    assert [run.text(index) for index in (2, 5)] == ["back\n", "back again\n"]


async def test_a_kernel_without_its_descriptors_ends_at_once_and_says_why(tmp_path: Path) -> None:
    for closing in (
        "os.closerange(3, 1000)",
        "os.closerange(0, 1000)",
        "os.closerange(3, 1000); files = [open('/dev/null') for _ in range(100)]",
    ):
        run = await recorded(tmp_path, f"import os; {closing}", "print('never')", timeout=120)
        assert run.finished is not None
        assert run.finished.outcome is Outcome.KERNEL_DIED, closing
        assert run.statuses == [ERROR, SKIPPED]
        cell = run.cell(0)
        assert cell.error_name == "KernelDied"
        # ZeroMQ may be the first to notice, and aborts.
        assert re.search(
            "closed or replaced file descriptors that it needs"
            "|ended by SIGABRT, .* file descriptors closed or replaced",
            cell.error_value or "",
        )

    # Where it is heard of before the cell's end, by ZeroMQ.
    run = await recorded(
        tmp_path, "import os; os.closerange(3, 1000); print('x'); import time; time.sleep(600)"
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.KERNEL_DIED


async def test_whoever_reads_standard_input_finds_its_end(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "!cat",
        '!read answer; echo "got <$answer>"',
        "import os, subprocess, sys\nprint(subprocess.run(['cat']).returncode, os.read(0, 9))",
        "print(repr(sys.stdin.read()), os.system('cat'), os.popen('cat').read())",
        "out = !cat; echo $?\nprint(out)",
        # What runs a cell's text reads it from there.
        "%%bash\ncat\nno more",
        "%%script cat\nnor here",
        # No program finds a terminal to ask for a password.
        "!(cat /dev/tty) 2>/dev/null || echo none",
        # What is written is a terminal's all the same, and the status is known.
        "!test -t 1 && echo terminal; test -t 0 || echo no keyboard; exit 3",
        "print(_exit_code)",
        "!kill -9 $$",
        "print(_exit_code)",
        "!(sleep 600; echo late) & echo now; printf 'ä%.0s' 1 2 3",
        "!yes 0123456789 | head -c 300000",
        "input('name?')",
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.CELL_ERROR
    assert run.statuses == [*[OK] * 14, ERROR]
    texts = [run.text(index) for index in range(14)]
    assert texts[:3] == ["", "got <>\n", "0 b''\n"]
    assert texts[3:7] == ["'' 0 \n", "['0']\n", "no more\n", "nor here\n"]
    assert texts[7:9] == ["none\n", "terminal\nno keyboard\n"]
    assert [texts[9], texts[11]] == ["3\n", "-9\n"]
    assert texts[12] == "now\näää"
    assert texts[13] == ("0123456789\n" * 30000)[:300000]
    assert run.cell(14).error_name == "StdinNotImplementedError"
    (left,) = run.finished.warnings
    assert left.startswith("2 processes that the notebook left running")
    assert left.endswith("sleep.")
