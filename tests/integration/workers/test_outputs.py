"""What cells put out, from a worker's kernel to what is kept and can be read."""

from __future__ import annotations

import asyncio
import hashlib
from uuid import UUID

import msgspec
from support.executions import Stage

from nbledger_domain.execution import (
    CellStatus,
    Execution,
    ExecutionStatus,
    Output,
    OutputOptions,
)
from nbledger_domain.output_digest import outputs_digest
from nbledger_projections.read_models.executions import results as execution_results
from nbledger_projections.read_models.executions import status as execution_status
from nbledger_projections.read_models.executions.result_folding import CellOutputs
from nbledger_projections.read_models.executions.results import ResultsView


async def results(scene: Stage, execution_id: UUID) -> ResultsView:
    (first, *_) = await scene.history(execution_id)
    view = await execution_results.get(
        scene.pool, first.tenant_id, first.project_id, first.subject_id, execution_id
    )
    assert view is not None
    return view


async def content(scene: Stage, execution_id: UUID, output: Output, *, form: int = 0) -> bytes:
    """A form of an output as it is stored: the richest."""
    chosen, scope = output.representations[form], await scene.scope(execution_id)
    whole = await scene.content(execution_id, chosen)
    assert (hashlib.sha256(whole).hexdigest(), len(whole)) == (chosen.digest, chosen.size)
    pieces = [piece async for piece in await scene.artifacts.stream(scope, chosen.digest)]
    assert b"".join(pieces) == whole
    return whole


# One after the other, as fast as they can; and as slow as they may.
_ORDERED = """
import sys, time
out, err = sys.stdout, sys.stderr
for text, stream in (('a', out), ('b', err), ('c', out)): print(text, file=stream)
print('d'); time.sleep(0.3); print('e', file=err); time.sleep(0.3); print('f')
"""
_JOINED = "for n in range(1_000): print(n, file=(out, err)[n % 2])"
_BROKEN = """
class R:
    def __repr__(self): raise ValueError('repr broken')
R()
"""
_HALF_BROKEN = """
class H:
    def _repr_html_(self): raise KeyError('html')
H()
"""
_WIDGET = """
from comm import create_comm
state = {'_model_module': 'm', '_model_module_version': '1', '_model_name': 'SliderModel'}
state['value'] = 1
comm = create_comm(target_name='jupyter.widget', comm_id='w', data={'state': state})
comm.send({'method': 'update', 'state': {'value': 5}})
comm.send({'state': {'picture': None}, 'buffer_paths': [['picture']]}, buffers=[b'abc'])
"""


async def test_order_errors_and_widgets_are_as_a_front_end_shows_them(at_work: Stage) -> None:
    execution = await at_work.run(
        _ORDERED, _JOINED, _BROKEN, _HALF_BROKEN, _WIDGET, continue_on_error=True
    )
    view = await results(at_work, execution.id)
    ordered, joined, *failed, widgets = view.cells
    for cell in view.cells:
        assert_complete(cell)
    texts = [(each.stream, await content(at_work, execution.id, each)) for each in ordered.outputs]
    out, err = "stdout", "stderr"
    assert texts == [(out, b"a\n"), (err, b"b\n"), (out, b"c\nd\n"), (err, b"e\n"), (out, b"f\n")]
    assert joined.output_count == len(joined.outputs) == 202
    (warning,) = await at_work.events(execution.id, Execution.Warned)
    assert "took turns more than 200 times" in warning.warning
    assert joined.cell_id in warning.warning
    errors = [(cell.error.error_type, cell.error.error_message) for cell in failed if cell.error]
    assert errors == [("ValueError", "repr broken"), ("KeyError", "'html'")]
    for cell, (name, message) in zip(failed, errors, strict=True):
        (shown,) = [output for output in cell.outputs if output.output_type == "error"]
        told = msgspec.json.decode(await content(at_work, execution.id, shown, form=1))
        assert (told["ename"], told["evalue"]) == (name, message)
    assert widgets.outputs == []
    assert view.widgets is not None
    assert view.widgets.content_type == "application/vnd.jupyter.widget-state+json"
    kept = Output(output_type="display_data", representations=[view.widgets])
    assert msgspec.json.decode(await content(at_work, execution.id, kept))["state"] == {
        "w": {
            "model_name": "SliderModel",
            "model_module": "m",
            "model_module_version": "1",
            "state": {
                "_model_module": "m",
                "_model_module_version": "1",
                "_model_name": "SliderModel",
                "value": 5,
                "picture": None,
            },
            "buffers": [{"data": "YWJj", "encoding": "base64", "path": ["picture"]}],
        }
    }


_ENDLESS = """
import time
print('a' * 1_500_000)
print('and so on')
while True: time.sleep(0.01)
"""


async def test_outputs_of_a_running_cell_are_read_while_it_runs(at_work: Stage) -> None:
    execution_id = await at_work.request("'before'", _ENDLESS, "'after'")
    hidden = await at_work.request(
        "print(1)\n" + _ENDLESS, output_options=OutputOptions(save_intermediate_results=False)
    )
    await at_work.command(execution_id, hidden)
    async with asyncio.timeout(30):
        while "outputs-saved" not in await at_work.types(execution_id):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        while "cell-started" not in await at_work.types(hidden):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    view = await results(at_work, execution_id)
    assert view.status == ExecutionStatus.RUNNING
    assert [cell.status for cell in view.cells] == [
        CellStatus.SUCCESS,
        CellStatus.RUNNING,
        CellStatus.PENDING,
    ]
    (output,) = view.cells[1].outputs
    text = b"a" * 1_500_000 + b"\nand so on\n"
    assert await content(at_work, execution_id, output) == text
    assert view.cells[1].output_bytes == len(text)
    await at_work.cancel(execution_id)
    await at_work.cancel(hidden)
    await at_work.until(execution_id)
    await at_work.until(hidden)
    view = await results(at_work, execution_id)
    assert [cell.status for cell in view.cells] == [
        CellStatus.SUCCESS,
        CellStatus.CANCELLED,
        CellStatus.SKIPPED,
    ]
    # What there was until then stays.
    assert await content(at_work, execution_id, view.cells[1].outputs[0]) == text
    assert "outputs-saved" not in await at_work.types(hidden)
    assert (await results(at_work, hidden)).cells[0].output_bytes > 1_500_000


def assert_complete(cell: CellOutputs) -> None:
    assert not cell.truncated
    assert cell.kept_bytes == cell.output_bytes
    assert outputs_digest(cell.outputs) == cell.outputs_digest


async def test_outputs_are_kept_whole_and_can_be_verified(at_work: Stage) -> None:
    execution = await at_work.run(
        "from IPython.display import display, HTML\n"
        "handle = display({'text/plain': 'old'}, raw=True, display_id='d')",
        "print('x' * 3_300_000); display(HTML('<b>h</b>'), metadata={'isolated': True}); 42",
        "handle.update({'text/plain': 'new', 'text/html': '<i>new</i>'}, raw=True)",
        "for number in range(1000): display({'text/plain': str(number)}, raw=True)",
        "1 / 0",
        "print('y' * 30_000_000)",
        "for number in range(1001): display({'text/plain': str(number)}, raw=True)",
        continue_on_error=True,
    )
    assert execution.status is ExecutionStatus.COMPLETED
    view = await results(at_work, execution.id)
    first, long, third, many, failed, *beyond = view.cells
    for cell in (first, long, third, many, failed):
        assert_complete(cell)
    assert await content(at_work, execution.id, first.outputs[0]) == b"<i>new</i>"
    (updated,) = await at_work.events(execution.id, Execution.OutputsUpdated)
    assert updated.outputs_digest == first.outputs_digest
    assert [output.output_type for output in long.outputs] == [
        "stream",
        "display_data",
        "execute_result",
    ]
    assert await content(at_work, execution.id, long.outputs[0]) == b"x" * 3_300_000 + b"\n"
    assert third.outputs_digest == hashlib.sha256(b"").hexdigest()
    assert many.output_count == len(many.outputs) == 1000
    assert await content(at_work, execution.id, many.outputs[-1]) == b"999"
    assert [cell.truncated for cell in beyond] == [True, True]
    assert [cell.kept_bytes for cell in beyond] == [20_000_000, 2890]
    truncated = await at_work.events(execution.id, Execution.OutputTruncated)
    assert [(each.output_bytes, each.kept_bytes) for each in truncated] == [
        (30_000_001, 20_000_000),
        (2894, 2890),
    ]
    told = [
        f"Cell {beyond[0].cell_id!r}: 10,000,001 bytes beyond the limits on output: not kept.",
        f"Cell {beyond[1].cell_id!r}: 1 output (4 bytes) beyond the limits on output: not kept.",
    ]
    assert view.run_warnings == told
    (first_event, *_) = await at_work.history(execution.id)
    status = await execution_status.get(
        at_work.pool,
        first_event.tenant_id,
        first_event.project_id,
        first_event.subject_id,
        execution.id,
    )
    assert status is not None
    assert msgspec.json.decode(status.document)["runWarnings"] == told


_LATE = """
import atexit, threading, time
def late():
    time.sleep(0.3); print('late'); raise RuntimeError('boom')
atexit.register(lambda: print('bye'))
threading.Thread(target=late).start(); print('now')
"""
_CUT = "import atexit, os; atexit.register(lambda: (print('bye'), os._exit(0))); print('now')"


async def test_what_is_put_out_while_the_kernel_ends_is_kept_or_the_cell_is_flagged(
    at_work: Stage,
) -> None:
    late, cut = await at_work.request(_LATE), await at_work.request(_CUT)
    await at_work.command(late, cut)
    ends = [await at_work.until(each, seconds=60.0) for each in (late, cut)]
    assert [end.status for end in ends] == [ExecutionStatus.COMPLETED] * 2

    (cell,) = (await results(at_work, late)).cells
    assert_complete(cell)
    assert await text_by_stream(at_work, late, cell) == {
        "stdout": "now\nlate\nbye\n",
        "stderr": "RuntimeError: boom\n",
    }
    assert await at_work.events(late, Execution.Warned) == []

    (cell,) = (await results(at_work, cut)).cells
    assert cell.truncated
    assert len(await at_work.events(cut, Execution.OutputTruncated)) == 1
    (warning,) = await at_work.events(cut, Execution.Warned)
    assert warning.warning == (
        "The output of the last cell may not be whole: the kernel ended and had not told that all "
        "of it was sent."
    )


async def text_by_stream(scene: Stage, execution_id: UUID, cell: CellOutputs) -> dict[str, str]:
    """The text of a cell; of a traceback its last line."""
    found = {"stdout": "", "stderr": ""}
    for output in cell.outputs:
        text = (await content(scene, execution_id, output)).decode()
        found[output.stream or ""] += text
    found["stderr"] = found["stderr"].splitlines(keepends=True)[-1]
    return found
