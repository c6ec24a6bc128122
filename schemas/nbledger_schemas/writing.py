"""The files that are made of the types: schemas, what of them is released, and the pages.

A file of the package is never taken away: a type whose class has given way to the next version
keeps the schema that it had.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import msgspec

from nbledger_schemas import Schema, published
from nbledger_schemas.compatibility import Break, bare, breaks
from nbledger_schemas.generating import current
from nbledger_schemas.pages import index, page

ROOT: Final = Path(__file__).resolve().parents[2]
EXAMPLES: Final = ROOT / "tests" / "unit" / "domain" / "golden"
"""The recorded data of each type; in the folder ``full``, with members that it lacks there."""

RELEASED: Final = ROOT / "schemas" / "released.json"
SCHEMAS: Final = Path(__file__).with_name("events")
PAGES: Final = ROOT / "docs" / "events"


def files() -> dict[Path, str]:
    """Every file that is made of the types, with the content that it is to have."""
    schemas = all_schemas()
    return {
        **{SCHEMAS / f"{name}.json": text(schema) for name, schema in schemas.items()},
        **{PAGES / f"{name}.md": page(name, schema) for name, schema in schemas.items()},
        PAGES / "README.md": index(schemas),
    }


def all_schemas() -> dict[str, Schema]:
    """The schemas of the types that have a class, and those on file of the types of before."""
    return dict(sorted((published() | current(_examples())).items()))


def released() -> dict[str, Schema]:
    """The schemas that readers have been promised, without descriptions."""
    found: dict[str, Schema] = msgspec.json.decode(RELEASED.read_bytes())
    return found


def broken() -> list[Break]:
    """What the types as they are now break of that promise."""
    return breaks(released(), all_schemas())


def write() -> None:
    """Write the files, but for what is released."""
    for path, content in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def release() -> list[Break]:
    """Promise the schemas as they are now. Does nothing but tell where that breaks a promise."""
    found = broken() if RELEASED.exists() else []
    if not found:
        RELEASED.write_text(text({name: bare(each) for name, each in all_schemas().items()}))
    return found


def _examples() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for folder in (EXAMPLES / "full", EXAMPLES):
        for path in sorted(folder.glob("*.json")):
            found[path.stem].append(msgspec.json.decode(path.read_bytes()))
    return found


def text(value: Any) -> str:
    """JSON as the files have it."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
