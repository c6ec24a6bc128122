"""Numbers in messages."""

import pytest

from nbledger_domain.words import counted, listed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1 second"),
        (1.0, "1 second"),
        (0.5, "0.5 seconds"),
        (0, "0 seconds"),
        (2, "2 seconds"),
        (1800.0, "1800 seconds"),
        (12_345_678.0, "12345678 seconds"),
    ],
)
def test_one_of_a_unit_is_told_as_one(value: float, text: str) -> None:
    assert counted(value, "second") == text


def test_of_many_names_the_first_are_told_and_the_others_counted() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcde")) == "a, b, c, d, e"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert listed(list("abc"), most=1) == "a and 2 more"
