"""The schemas of what state topics hold: ``python -m nbledger_projections.state_topics.schemas``.

Written from the types of the read models; ``release`` promises them to readers, by the rules that
hold for events.
"""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import msgspec

from nbledger_domain.vocabulary.addresses import state_schema_path
from nbledger_projections.read_models.dataset_details import DatasetDocument
from nbledger_projections.read_models.executions.documents import ExecutionDocument
from nbledger_projections.read_models.notebooks.documents import NotebookDocument
from nbledger_projections.state_topics.states import DATASET, EXECUTION, NOTEBOOK, STATES
from nbledger_schemas import Schema
from nbledger_schemas.compatibility import Break, bare, breaks
from nbledger_schemas.generating import document_schema
from nbledger_schemas.writing import ROOT, text

FOLDER: Final = ROOT / "schemas" / "nbledger_schemas" / "states"
RELEASED: Final = ROOT / "schemas" / "released-states.json"
EXAMPLES: Final = ROOT / "tests" / "unit" / "projections" / "golden" / "states"

BESIDE: Final = ("queue", "repetitions", "duration_warning")
"""Members of an execution that no event of its own tells: they are told where it is asked for."""

_TYPES: Final[dict[str, tuple[type[msgspec.Struct], Collection[str]]]] = {
    NOTEBOOK: (NotebookDocument, ()),
    EXECUTION: (ExecutionDocument, BESIDE),
    DATASET: (DatasetDocument, ()),
}

_ABOUT: Final = """\
The newest state of {a} {kind}, as the API answers with it, but for principals, whose ids stand in \
the place of their names.\
"""
_LEFT_OUT: Final = """\

`queue`, `repetitions` and `durationWarning`, which other events tell, are left out.\
"""


def current() -> dict[str, Schema]:
    """The schemas as the types are now, each with its examples."""
    found = {}
    for each in STATES:
        kind, without = _TYPES[each.kind]
        path = EXAMPLES / f"{each.type}.json"
        examples: list[Any] = msgspec.json.decode(path.read_bytes()) if path.exists() else []
        found[each.type] = document_schema(
            each.type,
            state_schema_path(each.type),
            kind,
            examples,
            without=without,
            description=_about(each.kind),
        )
    return dict(sorted(found.items()))


def _about(kind: str) -> str:
    told = _ABOUT.format(a="an" if kind == EXECUTION else "a", kind=kind)
    return f"{told}\n{_LEFT_OUT}" if kind == EXECUTION else told


def files() -> dict[Path, str]:
    """Every file that is made of the types, with the content that it is to have."""
    return {FOLDER / f"{name}.json": text(schema) for name, schema in current().items()}


def broken() -> list[Break]:
    """What the types as they are now break of what readers have been promised."""
    return breaks(msgspec.json.decode(RELEASED.read_bytes()), current())


def main(*, releasing: bool) -> int:
    """Write the files, or promise the schemas; 1 where readers would break."""
    found = broken() if RELEASED.exists() else []
    sys.stderr.writelines(f"{each}\n" for each in found)
    if not releasing:
        FOLDER.mkdir(exist_ok=True)
        for path, content in files().items():
            path.write_text(content)
    elif not found:
        RELEASED.write_text(text({name: bare(each) for name, each in current().items()}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(releasing=sys.argv[1:] == ["release"]))
