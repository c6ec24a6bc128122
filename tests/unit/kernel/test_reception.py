"""Whether all that a kernel has published was received."""

from __future__ import annotations

from nbledger_workers.kernel.channels.reception import Reception


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


def test_a_kernel_that_does_not_number_is_doubted_when_it_was_held_up() -> None:
    told = []
    for first in (b"#1", b"x"):
        reception = Reception()
        reception.note([b"status", first])
        reception.note_held()
        told.append(reception.loss is not None)
        reception.begin()
        assert reception.loss is None
    assert told == [False, True]


def test_numbers_that_a_cell_makes_up_flag_it_and_hide_nothing() -> None:
    def told(first: bytes, *others: bytes) -> str | None:
        reception = Reception(lambda: 0.0)
        reception.note([b"status", first])
        reception.begin()
        for each in others:
            reception.note([b"stream", each])
        return reception.loss

    def numbers(*values: int) -> list[bytes]:
        return [b"#%d" % value for value in values]

    assert told(*numbers(7, 8, 9)) is None
    for forged in ((7, 900, 8), (7, 8, 3, 9), (7, 8, 8), (7, 6, 9)):
        assert told(*numbers(*forged)), forged
    # Too long to be one: it is sent past the one who counts.
    assert told(b"#7", b"#" + b"9" * 5_000, b"#8") is None
    # A kernel that does not number does not begin to in a cell.
    assert "drop" in (told(b"x", *numbers(*range(1, 600))) or "")
    # What is not numbered of one that does is counted, when it is much.
    assert "drop" in (told(b"#1", *[b"x"] * 600) or "")


def test_what_cannot_be_read_is_told() -> None:
    reception = Reception()
    reception.note([b"#1"])
    reception.note([], readable=False)
    reception.note_unreadable()
    assert reception.loss == "of the kernel's messages 2 could not be read"
    reception.begin()
    assert reception.loss is None


def test_what_is_no_longer_read_is_told() -> None:
    reception = Reception()
    reception.note([b"#1"])
    reception.note_cut()
    assert reception.loss == "the kernel went on sending, and not all of that was waited for"
    reception.begin()
    assert reception.loss is None
