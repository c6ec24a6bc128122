"""Rows that a projection keeps between batches: bounded by what they weigh, not by their number."""

from __future__ import annotations

from uuid import UUID

import msgspec

from nbledger_projections.machinery.rows import Rows


class State(msgspec.Struct):
    cells: list[str]


def key(number: int) -> UUID:
    return UUID(int=number)


def held(rows: Rows[State]) -> list[int]:
    return [key_.int for key_, _ in rows.states()]


def put(rows: Rows[State], number: int, size: int) -> None:
    rows.put(key(number), State(["x" * size]))
    rows.settle()


def test_the_most_recently_used_stay_that_fit_whatever_their_size() -> None:
    rows: Rows[State] = Rows(100_000)
    for number in range(1, 1000):
        put(rows, number, 10)
        assert rows.bytes <= 100_000
    small = len(held(rows))
    assert 100 < small < 200
    put(rows, 1000, 20_000)
    assert held(rows)[-1] == 1000
    assert rows.bytes <= 100_000
    before = held(rows)
    put(rows, 1001, 30_000)
    assert held(rows) == before, "what does not fit at all is read again when it is needed"


def test_a_row_that_grows_weighs_what_it_has_become() -> None:
    rows: Rows[State] = Rows(100_000)
    put(rows, 1, 10)
    put(rows, 2, 10)
    growing = State([])
    for number in range(30):
        growing.cells.append("x" * 1_000)
        rows.put(key(2), growing)
        rows.settle()
        assert (number < 24) == (2 in held(rows))
        if 2 not in held(rows):
            break
    assert rows.bytes <= 100_000


def test_nothing_goes_before_it_is_written_and_what_has_ended_goes_then() -> None:
    rows: Rows[State] = Rows(10_000)
    rows.fill([key(1), key(2)], {key(1): State([])})
    rows.put(key(3), State(["x" * 50_000]))
    rows.put(key(4), State([]))
    rows.let_go(key(4))
    assert [len(rows.changes()[0]), rows.get(key(2))] == [2, None]
    rows.settle()
    assert rows.changes() == ([], [])
    assert held(rows) == [1]
    assert rows.missing([key(1), key(2), key(3), key(4)]) == [key(3), key(4)]
    rows.fill([key(4)], {key(4): State([])})
    rows.forget([key(4)])
    rows.settle()
    assert rows.missing([key(1), key(4)]) == []
    assert rows.get(key(4)) is None
    rows.clear()
    assert rows.bytes == 0
    assert rows.missing([key(1)]) == [key(1)]
