"""What is told of templates, from the notebooks themselves."""

import pytest

from nbledger_infrastructure.notebooks import templates
from nbledger_infrastructure.notebooks.templates import TemplateParameter


def test_every_template_says_what_it_is() -> None:
    assert templates.names() == (
        "conformance",
        "enrichment",
        "prediction",
        "process_mining_starter",
    )
    for name in templates.names():
        told = templates.describe(name)
        assert told.name == name
        assert told.kernel_type == "python3"
        assert not told.title.startswith("#")
        assert len(told.description) > 60
        assert "\n" not in told.description
        assert {"dataset_id", "sample_cases"} <= {each.name for each in told.parameters}
        assert all(each.description for each in told.parameters)
        assert templates.load(name).warnings == []


def test_parameters_are_those_of_the_notebook() -> None:
    told = templates.describe("conformance")
    assert told.title == "Conformance"
    assert told.description.startswith("Which cases keep to the process as it is meant to be")
    assert told.parameters[2] == TemplateParameter(
        "reference_share", 0.5, "the most frequent ways of this share of the cases are the process"
    )


def test_there_is_no_other() -> None:
    with pytest.raises(KeyError):
        templates.describe("../process_mining_starter")
