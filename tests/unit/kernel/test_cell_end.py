"""When a cell is over, by what its kernel says and what the cell itself may have said."""

from __future__ import annotations

from typing import Any

from nbledger_workers.kernel.channels.cell_end import CellEnd, Told


def marked(mark: object, **more: Any) -> dict[str, Any]:
    return {"status": "ok", **more, "nbledger": {"unfinished": [], "end": mark}}


def test_a_mark_ends_a_cell_in_either_order() -> None:
    first, last = CellEnd("m"), CellEnd("m")
    for end in (first, last):
        # By the cell itself.
        end.take_idle({"execution_state": "idle"}, "9999")
        end.take_idle({"nbledger": "forged"}, "9999")
        end.take_idle({"nbledger": ["m"]}, "9999")
    first.take_reply(marked("m"), "1000")
    # The kernel is asked: its own one may be lost among those.
    assert (first.over, first.doubtful) == (False, True)
    assert first.reply is not None
    first.take_idle({"nbledger": "m"}, "1000")
    last.take_idle({"nbledger": "m"}, "1000")
    assert not last.over
    last.take_reply(marked("m"), "1000")
    assert first.over
    assert last.over


def test_of_an_honest_kernel_nothing_is_asked_between_its_reply_and_its_idle() -> None:
    end = CellEnd("m")
    end.take_reply(marked("m"), "1000")
    assert (end.over, end.doubtful) == (False, False)


def test_however_many_marks_a_cell_makes_up_the_true_one_ends_it() -> None:
    end = CellEnd("m")
    forged = [str(number) for number in range(1_000)]
    for mark in (*forged, "m", *forged):
        end.take_idle({"nbledger": mark}, "1000")
    for mark in forged:
        end.take_reply(marked(mark), "1000")
    assert (end.over, end.reply, end.doubtful) == (False, None, True)
    end.take_reply(marked("m"), "1000")
    assert (end.over, end.doubtful) == (True, False)
    end.take_reply(marked("m") | {"status": "error"}, "2000")
    assert end.reply is not None
    assert end.reply["status"] == "ok"


def test_a_reply_without_its_mark_is_none_until_the_kernel_has_answered() -> None:
    end = CellEnd("m")
    end.take_reply({"status": "ok"}, "1000")
    end.take_idle({}, "2000")
    assert (end.reply, end.over, end.doubtful) == (None, False, True)
    # The true one comes after all.
    end.take_reply(marked("m") | {"status": "error"}, "3000")
    end.take_reply({"status": "ok"}, "4000")
    assert end.reply is not None
    assert (end.reply["status"], end.over, end.doubtful, end.replies) == ("error", False, True, 3)
    lost = CellEnd("m")
    lost.take_reply({"status": "ok"}, "1000")
    lost.take_answer("iopub")
    lost.take_answer("shell")
    assert lost.over
    assert lost.reply == {"status": "ok", "execution_count": None, "payload": []}


def test_of_other_kernels_the_later_idle_counts_or_an_answer() -> None:
    later, earlier, odd = (CellEnd(None) for _ in range(3))
    for end, date in ((later, "2000"), (earlier, "0999"), (odd, None)):
        end.take_reply({"status": "ok"}, "1000")
        assert end.reply is not None
        assert (end.over, end.doubtful) == (False, False)
        end.take_idle({}, date)
    assert [end.over for end in (later, earlier, odd)] == [True, False, False]
    assert [end.doubtful for end in (later, earlier, odd)] == [False, True, True]
    earlier.take_idle({}, "1001")
    odd.take_answer("iopub")
    odd.take_answer("shell")
    assert earlier.over
    assert odd.over
    # What comes then changes nothing.
    odd.take_reply({"status": "error"}, "5000")
    assert odd.reply is not None
    assert odd.reply["status"] == "ok"


def test_of_a_reply_only_what_makes_sense_is_told() -> None:
    end = CellEnd(None)
    for content in (
        {"execution_count": 1 << 70, "payload": {"a": 1}, "nbledger": 3},
        {"execution_count": True, "payload": [1, {"source": "page"}], "nbledger": {"end": 5}},
    ):
        end.take_reply(content, None)
    assert end.reply == {"execution_count": None, "payload": [{"source": "page"}]}
    assert end.told == Told()
    odd: dict[str, Any] = {
        "unfinished": ["x" * 1_000, 7, *range(100)],
        "exitStatus": "0",
        "tasks": {"count": -3, "names": "many"},
    }
    end.take_reply({"nbledger": odd}, None)
    assert end.told is not None
    assert [len(each) for each in end.told.unfinished[:2]] == [200, 1]
    assert len(end.told.unfinished) == 20
    assert end.told == Told(unfinished=end.told.unfinished)
    end.take_reply({"nbledger": {"exitStatus": 3, "tasks": {"count": 2, "names": ["f"]}}}, None)
    assert end.told == Told(exit_status=3, tasks=2, task_names=["f"])
    end.take_reply({"nbledger": {"ran": False}}, None)
    assert end.told == Told(ran=False)


def test_late_output_is_told_by_the_kernel_alone() -> None:
    end = CellEnd("m")
    end.take_idle({"nbledger": "forged", "late": True}, "1000")
    end.take_idle({"nbledger": "m", "late": 1}, "1000")
    assert not end.late
    end.take_idle({"nbledger": "m", "late": True}, "1000")
    assert end.late


def test_a_kernel_that_is_done_with_a_cell_and_has_not_replied_lacks_a_reply() -> None:
    end = CellEnd("m")
    end.take_idle({}, "1000")
    end.take_idle({"nbledger": "made up"}, "1000")
    assert not end.lacks_reply
    end.take_idle({"nbledger": "m"}, "1000")
    assert (end.lacks_reply, end.answered, end.over) == (True, False, False)
    # What was published until then is no reply's answer.
    end.take_answer("iopub")
    assert not end.answered
    end.take_answer("shell")
    assert (end.lacks_reply, end.answered) == (True, True)
    end.take_reply(marked("m"), "0999")
    assert (end.lacks_reply, end.over) == (False, True)


def test_a_kernel_without_marks_lacks_a_reply_once_it_has_answered() -> None:
    end = CellEnd(None)
    assert not end.may_lack_reply
    # By the kernel, or by the cell, which goes on.
    end.take_idle({}, "1000")
    assert (end.may_lack_reply, end.lacks_reply, end.doubtful) == (True, False, False)
    end.take_answer("iopub")
    assert (end.lacks_reply, end.answered) == (True, False)
    end.take_reply({"status": "ok"}, "0999")
    assert (end.may_lack_reply, end.lacks_reply, end.over) == (False, False, True)
    assert not CellEnd("m").may_lack_reply
