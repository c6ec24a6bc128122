"""The client's types are those of the API's description."""

from __future__ import annotations

import pytest
from client_models import FOLDER, Models, formatted, openapi

from nbledger_client import models


def test_the_models_are_made_of_the_description_as_it_is() -> None:
    made = formatted(Models(openapi()).files())
    there = {path.name: path.read_text() for path in FOLDER.glob("*.py")}
    stale = {name for name in made.keys() | there.keys() if made.get(name) != there.get(name)}
    assert stale == set(), "`make client-models` writes them anew"


@pytest.mark.parametrize("name", models.MODULES)
def test_every_model_is_to_be_had_by_its_name(name: str) -> None:
    assert getattr(models, name).__name__ == name


def test_an_unknown_name_is_none() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        models.Nothing  # noqa: B018
