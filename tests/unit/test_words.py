"""Numbers in messages."""

import pytest

from nbledger_domain.words import counted


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
