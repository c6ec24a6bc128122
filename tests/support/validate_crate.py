"""Check RO-Crate documents by roc-validator: `python validate_crate.py PROFILE FILE…`.

Runs in an environment of its own, requirements/crate.txt. It prints what is wrong as JSON, by file.
Nothing is fetched: the contexts that the documents name come from package rocrate, but for the few
terms of workflow runs.
"""

# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from rdflib.plugins.shared.jsonld import context
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationSettings
from rocrate_validator.utils.http import HttpRequester

_TERMS = ("resourceUsage",)
_ONES = "https://w3id.org/ro/terms/workflow-run"
_NEWEST = json.loads(resources.files("rocrate").joinpath("data/ro-crate.jsonld").read_text())
_BIOSCHEMAS = "https://bioschemas.org"
# The package has the context of a later version, which calls these otherwise.
_NEWEST["@context"] |= {
    "ComputationalWorkflow": f"{_BIOSCHEMAS}/ComputationalWorkflow",
    "FormalParameter": f"{_BIOSCHEMAS}/FormalParameter",
    "input": f"{_BIOSCHEMAS}/ComputationalWorkflow#input",
    "output": f"{_BIOSCHEMAS}/ComputationalWorkflow#output",
}
CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": _NEWEST,
    f"{_ONES}/context": {"@context": {term: f"{_ONES}#{term}" for term in _TERMS}},
}


def _known(_self: object, source: str, _base: object, _referenced: object) -> Any:
    return CONTEXTS[source]


class _Answer:
    status_code = 200

    def __init__(self, url: str) -> None:
        self.url = url
        self.headers = {"Content-Type": "application/ld+json"}
        self.text = json.dumps(CONTEXTS[url])
        self.content = self.text.encode()

    def json(self) -> Any:
        """The context."""
        return CONTEXTS[self.url]


def main() -> None:
    """Check each."""
    HttpRequester.get = lambda _self, url, **_options: _Answer(url)
    context.Context._fetch_context = _known
    profile, *files = sys.argv[1:]
    found = {}
    for file in files:
        settings = ValidationSettings(
            rocrate_uri=str(Path(file).parent),
            profile_identifier=profile,
            requirement_severity=Severity.RECOMMENDED,
            metadata_only=True,
            skip_availability_check=True,
        )
        result = services.validate_metadata_as_dict(json.loads(Path(file).read_text()), settings)
        found[file] = [
            [issue.severity.name, issue.check.identifier, issue.message, str(issue.violatingEntity)]
            for issue in result.get_issues(Severity.RECOMMENDED)
        ]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
