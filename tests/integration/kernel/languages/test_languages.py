"""R and Scala notebooks on their real kernels, through the real supervising child."""

from __future__ import annotations

import base64
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.kernels import Recorded, code, recorded, request
from support.languages import kernelspec

from nbledger_domain.parameters import Language, assignments, inject
from nbledger_workers.kernel.driving.driver import Report
from nbledger_workers.kernel.protocol import CellStarted, CellStatus, KernelStarted, Outcome

pytestmark = pytest.mark.timeout(180)

OK, ERROR, SKIPPED = CellStatus.SUCCESS, CellStatus.ERROR, CellStatus.SKIPPED
PNG = b"\x89PNG\r\n\x1a\n"

PARAMETERS: dict[str, Any] = {
    "text": 'O\'Neil "quoted"\n\\ é 😀',
    "count": 42,
    "rate": 0.25,
    "flag": True,
    "nothing": None,
    "items": [1, 2, 3],
    "options": {"depth": 2, "tags": ["a", "b"]},
}

# What a notebook of each language does, by purpose.
R = {
    "defaults": 'text <- "default"; count <- 0',
    "use": "cat(text, count + 1, rate, flag, is.null(nothing), sum(unlist(items)), options$depth,\n"
    '    options$tags[[2]], sep = "|")',
    "used": 'O\'Neil "quoted"\n\\ é 😀|43|0.25|TRUE|TRUE|6|2|b',
    "print": 'cat("out\\n"); message("err"); 6 * 7',
    "value": "[1] 42",
    "fail": 'inner <- function() stop("broken: ü")\ncat("partly\\n")\ninner()',
    "error": "broken: ü",
    "frame": "inner()",
    "syntax": "1 + + )",
    "ask": 'readline("name? ")',
    "spin": "while (TRUE) {}",
    "sleep": "Sys.sleep(60)",
    "figure": "plot(1:3)",
    "table": "data.frame(a = 1:2)",
    "html": 'IRdisplay::display_html("<b>bold</b>")',
    "lines": 'cat(paste("line", 0:999), sep = "\\n")',
    "quit": "quit()",
    "version": "cat(as.character(getRversion()))",
    "folders": 'cat(path.expand("~"), dirname(tempdir()), getwd(), sep = "\\n")',
    "child": 'cat(Sys.getpid(), "\\n"); system("sleep 99", wait = FALSE)',
}
SCALA = {
    "defaults": 'val text = "default"; val count = 0',
    "use": 'print(Seq(text, count + 1, rate, flag, nothing == None, items.sum, options("depth"),\n'
    '  options("tags").asInstanceOf[Seq[String]](1)).mkString("|"))',
    "used": 'O\'Neil "quoted"\n\\ é 😀|43|0.25|true|true|6|2|b',
    "print": 'println("out"); Console.err.println("err"); 6 * 7',
    "value": "Int = 42",
    "fail": 'def inner() = throw new IllegalStateException("broken: ü")\n'
    'println("partly")\ninner()',
    "error": "broken: ü",
    "frame": "inner",
    "syntax": "1 + + )",
    "ask": "scala.io.StdIn.readLine()",
    "spin": "while (true) {}",
    "sleep": "Thread.sleep(60000)",
    "figure": "import java.awt.image.BufferedImage\n"
    "val figure = new BufferedImage(40, 20, BufferedImage.TYPE_INT_RGB)\n"
    "figure.createGraphics().fillOval(5, 5, 10, 10)\nfigure",
    "table": 'publish.html(Seq(1, 2).map(n => s"<tr><td>$n</td></tr>")'
    '.mkString("<table>", "", "</table>"))',
    "html": 'publish.html("<b>bold</b>")',
    "lines": 'for (n <- 0 to 999) println(s"line $n")',
    "quit": "sys.exit(0)",
    "version": "print(scala.util.Properties.versionNumberString)",
    "folders": 'println(System.getProperty("user.home"))\n'
    'println(System.getProperty("java.io.tmpdir")); println(System.getProperty("user.dir"))',
    "child": 'println(ProcessHandle.current.pid)\nnew ProcessBuilder("sleep", "99").start()',
}


@pytest.fixture(params=["r", "scala"])
def language(request: pytest.FixtureRequest) -> Language:
    """Each of the languages."""
    chosen: Language = request.param
    return chosen


@pytest.fixture
def spec(language: Language) -> str:
    """The name of its kernelspec."""
    return kernelspec(language)


@pytest.fixture
def cells(language: Language) -> dict[str, str]:
    """Its sources."""
    return {"r": R, "scala": SCALA}.get(language, {})


async def test_a_notebook_with_parameters_prints_shows_and_ends(
    tmp_path: Path, language: Language, spec: str, cells: dict[str, str]
) -> None:
    purposes = ("use", "print", "figure", "table", "html", "lines", "version", "folders")
    given = inject(
        [code(cells["defaults"], "parameters"), *(code(cells[each]) for each in purposes)],
        assignments(language, PARAMETERS),
    )
    run = await recorded(
        tmp_path,
        *given,
        code(cells["quit"]),
        code(cells["html"]),
        kernel_name=spec,
        timeout=120.0,
    )
    assert run.finished is not None
    assert run.statuses == [*[OK] * 11, SKIPPED], run.finished.detail
    assert run.finished.outcome is Outcome.COMPLETED
    at = {purpose: number for number, purpose in enumerate(purposes, 2)}

    assert run.text(at["use"]) == cells["used"]
    assert run.text(at["print"]) == "out\n"
    assert run.text(at["print"], "stderr").strip() == "err"
    assert cells["value"] in run.outputs(at["print"])[-1]["data"]["text/plain"]
    (figure,) = (
        output["data"]["image/png"]
        for output in run.outputs(at["figure"])
        if "image/png" in output.get("data", {})
    )
    assert base64.b64decode(figure).startswith(PNG)
    assert "<td>2</td>" in run.outputs(at["table"])[0]["data"]["text/html"]
    assert run.outputs(at["html"])[0]["data"] == {"text/html": "<b>bold</b>"}
    assert run.text(at["lines"]).splitlines() == [f"line {number}" for number in range(1_000)]

    started = run.reports[0]
    assert isinstance(started, KernelStarted)
    assert started.language.lower() == language
    assert started.language_version == run.text(at["version"])
    # Home, temporary and working folder are the run's own.
    for folder in run.text(at["folders"]).split():
        assert Path(folder).is_relative_to(tmp_path)
    assert run.finished.peak_memory_bytes > 30_000_000
    assert run.finished.cpu_seconds > 0.1


async def test_errors_are_told_and_what_follows_still_runs(
    tmp_path: Path, language: Language, spec: str, cells: dict[str, str]
) -> None:
    run = await recorded(
        tmp_path,
        cells["fail"],
        code(cells["fail"], "raises-exception"),
        cells["syntax"],
        cells["ask"],
        cells["spin"],
        cells["sleep"],
        cells["print"],
        kernel_name=spec,
        continue_on_error=True,
        cell_timeout=4.0,
        timeout=120.0,
    )
    assert run.finished is not None
    late = CellStatus.TIMED_OUT
    assert run.statuses == [ERROR, OK, ERROR, ERROR, late, late, OK], run.finished.detail
    assert run.finished.outcome is Outcome.COMPLETED
    failed = run.cell(0)
    assert failed.error_name == {"r": "ERROR", "scala": "java.lang.IllegalStateException"}[language]
    assert cells["error"] in (failed.error_value or "")
    assert cells["frame"] in "\n".join(failed.traceback)
    assert run.text(0) == "partly\n"
    assert run.outputs(0)[-1]["ename"] == failed.error_name
    assert run.cell(2).error_value
    # Nobody is there to answer, and nothing waits for it.
    assert "input" in f"{run.cell(3).error_name} {run.cell(3).error_value}".lower()
    assert (run.cell(3).duration or 9) < 4
    for index in (4, 5):
        assert 4 <= (run.cell(index).duration or 0) < 9
    assert run.text(6) == "out\n"


async def test_after_an_error_in_r_no_later_line_runs(tmp_path: Path) -> None:
    line = 'stop("broken"); invisible(1)'
    run = await recorded(
        tmp_path,
        f'{line}\ncat("next")',
        f"{{ {line} }}",
        kernel_name=kernelspec("r"),
        continue_on_error=True,
    )
    assert run.statuses == [ERROR, ERROR]
    for index in (0, 1):
        assert "broken" in (run.cell(index).error_value or "")
        assert [output["output_type"] for output in run.outputs(index)] == ["error"]


async def test_an_error_ends_the_run(tmp_path: Path, spec: str, cells: dict[str, str]) -> None:
    run = await recorded(tmp_path, cells["print"], cells["fail"], cells["print"], kernel_name=spec)
    assert run.finished is not None
    assert run.finished.outcome is Outcome.CELL_ERROR
    assert cells["error"] in run.finished.detail
    assert run.statuses == [OK, ERROR, SKIPPED]


@pytest.mark.parametrize("busy", ["spin", "sleep"])
async def test_cancel_interrupts_the_running_cell(
    tmp_path: Path, spec: str, cells: dict[str, str], busy: str
) -> None:
    def hook(report: Report, run: Recorded) -> None:
        if isinstance(report, CellStarted) and report.index == 1:
            run.run.cancel("not needed any more")

    sources = (cells["print"], cells[busy], cells["print"])
    run = Recorded(request(tmp_path, *sources, kernel_name=spec), hook)
    finished = await run.result()
    assert (finished.outcome, finished.detail) == (Outcome.CANCELLED, "not needed any more")
    assert run.statuses == [OK, CellStatus.CANCELLED, SKIPPED]
    assert run.text(0) == "out\n"
    assert run.ended - run.started(1) < 10


async def test_a_killed_kernel_is_noticed_and_takes_its_children_along(
    tmp_path: Path, spec: str, cells: dict[str, str]
) -> None:
    def hook(report: Report, run: Recorded) -> None:
        if isinstance(report, CellStarted) and report.index == 2:
            os.kill(int(run.text(1)), signal.SIGKILL)

    sources = (cells["print"], cells["child"], cells["sleep"], cells["print"])
    run = Recorded(request(tmp_path, *sources, kernel_name=spec), hook)
    finished = await run.result()
    assert finished.outcome is Outcome.KERNEL_DIED
    assert run.statuses == [OK, OK, ERROR, SKIPPED]
    assert run.cell(2).error_name == "KernelDied"
    assert run.text(0) == "out\n"
    assert not psutil.pid_exists(int(run.text(1)))
    assert run.ended - run.started(2) < 10


async def test_r_ends_in_order_and_what_it_writes_past_the_kernel_is_in_its_cell(
    tmp_path: Path,
) -> None:
    (tmp_path / "outputs").mkdir()
    asked = request(
        tmp_path,
        "connection <- file('outputs/open.txt', 'w'); cat('open', file = connection)",
        "kept <- new.env()\n"
        "finish <- function(kept) {\n"
        "    writeLines('finalized', 'outputs/finalized.txt'); cat('bye\\n'); message('late')\n"
        "}\n"
        "invisible(reg.finalizer(kept, finish, onexit = TRUE))",
        "system('echo child; echo worse >&2'); cat('by R\\n')",
        "cat(system('cat', intern = TRUE), readLines('stdin'), '.')",
        kernel_name=kernelspec("r"),
    )
    run = Recorded(asked)
    try:
        finished = await run.run.run()
        files = {path.name: path.read_text() for path in (tmp_path / "outputs").iterdir()}
    finally:
        await run.run.close()
    assert (finished.outcome, finished.warnings) == (Outcome.COMPLETED, [])
    assert files == {"open.txt": "open", "finalized.txt": "finalized\n"}
    assert [run.text(index).strip() for index in range(4)] == ["", "", "by R\nchild", "."]
    assert run.text(2, "stderr") == "worse\n"
    late = {output["name"]: output["text"] for output in run.updated(3)[-2:]}
    assert late == {"stdout": "bye\n", "stderr": "late\n"}
