"""``verify.py``: true bundles pass, each kind of false one is found, and the place is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.forgeries import Forgery, forgeries
from support.verifying import SOURCE, module_of, prepare, said

PROGRAM = module_of(compile(SOURCE.read_text(), str(SOURCE), "exec"))
ALL = list(forgeries())


@pytest.mark.guarantee("G44")
@pytest.mark.parametrize("forgery", ALL, ids=lambda each: each.name)
def test_what_is_said_of_a_bundle(forgery: Forgery, tmp_path: Path) -> None:
    prepared = prepare(forgery, tmp_path / "it")
    assert said(PROGRAM, prepared.arguments) == prepared.said


def test_it_is_short() -> None:
    assert len(SOURCE.read_text().splitlines()) < 200
