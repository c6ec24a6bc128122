"""Whether all that a kernel has published was received."""

from __future__ import annotations

from nbledger_workers.kernel.reception import Reception


def test_a_gap_in_the_numbers_is_a_loss_of_the_cell_at_hand() -> None:
    reception = Reception()
    # What came before somebody listened is no loss.
    for number in range(17, 3_000):
        reception.note([b"kernel.x.stream", b"#%d" % number])
    before = reception.loss
    reception.note([b"#3002"])
    # What is not numbered was sent past the one who counts.
    reception.note([b"kernel.x.stream"])
    reception.note([])
    assert reception.missing == 2
    told = [before, reception.loss]
    reception.begin()
    told.append(reception.loss)
    reception.note([b"#3004"])
    assert [*told, reception.loss] == [
        None,
        "2 messages of the kernel were lost on the way",
        None,
        "1 message of the kernel was lost on the way",
    ]
    assert reception.count == 2_983 + 4


def test_a_kernel_that_does_not_number_is_doubted_when_much_comes_at_once() -> None:
    now = 0.0
    reception = Reception(lambda: now)
    for number in range(10_000):
        now = number * 0.01
        reception.note([b"stream"])
    doubts = [reception.doubtful]
    for _ in range(499):
        reception.note([b"stream"])
    doubts.append(reception.doubtful)
    reception.begin()
    now += 60
    reception.note([b"stream"])
    assert [*doubts, reception.doubtful] == [False, True, False]
