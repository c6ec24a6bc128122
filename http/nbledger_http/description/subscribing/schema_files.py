"""JSON Schemas as files that are served as they are."""

from collections.abc import Mapping

import msgspec

from nbledger_http.replies.problems import Code, Problem
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_schemas import Schema, located

SCHEMA_JSON = "application/schema+json"


def schema_files(schemas: Mapping[str, Schema], base: str) -> dict[str, bytes]:
    """The file of each schema by its name, for a service that is reached by ``base``."""
    return {
        f"{name}.json": msgspec.json.encode(located(schema, base))
        for name, schema in schemas.items()
    }


def schema_reply(files: Mapping[str, bytes], name: str) -> Reply:
    """The file of this name. Raises :class:`Problem` for one that is not there."""
    found = files.get(name)
    if found is None:
        raise Problem(Code.NOT_FOUND)
    return json_reply(found, media_type=SCHEMA_JSON)
