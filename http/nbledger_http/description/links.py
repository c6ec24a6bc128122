"""Links of the OpenAPI document: from what makes something to what its id opens."""

import re
from collections.abc import Mapping
from typing import Any

_VARIABLE = re.compile(r"\{(\w+)\}")


def add_links(paths: dict[str, Any], opens: Mapping[tuple[str, int], str]) -> None:
    """Link answers with the operations that take the id in them.

    ``paths`` are those of the document; ``opens`` leads to the member that has the id, as a JSON
    pointer without its first slash, by the id of the operation and the status of the answer. The
    last name of the pointer is that of the variable in paths.
    """
    takers: dict[str, tuple[str, set[str]]] = {}
    for template, methods in paths.items():
        for operation in methods.values():
            variables = set(_VARIABLE.findall(template))
            takers[operation["operationId"]] = (operation["summary"], variables)
    for methods in paths.values():
        for operation in methods.values():
            _, known = takers[operation["operationId"]]
            for status, response in operation["responses"].items():
                pointer = opens.get((operation["operationId"], int(status)))
                if pointer is not None:
                    member = pointer.rpartition("/")[2]
                    response["links"] = {
                        name: _link(name, summary, wanted, pointer)
                        for name, (summary, wanted) in takers.items()
                        if member in wanted and wanted <= known | {member}
                    }


def _link(name: str, summary: str, variables: set[str], pointer: str) -> dict[str, Any]:
    member = pointer.rpartition("/")[2]
    return {
        "operationId": name,
        "description": f"{summary}.",
        "parameters": {
            variable: f"$response.body#/{pointer}"
            if variable == member
            else f"$request.path.{variable}"
            for variable in sorted(variables)
        },
    }
