"""Writes the client's models from the API's own description; `make client-models` runs it.

The client cannot import the API's types, which need the server's libraries; so each type of the
OpenAPI document becomes a struct of the same name. A test makes them anew and compares.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from support.paths import ROOT

from nbledger_http.edge.app import create_app
from nbledger_http.requests.services import Services
from nbledger_infrastructure.settings import Settings

FOLDER = ROOT / "client" / "nbledger_client" / "models"
COMMON = "common"

BY_TAG = {
    "Automatic execution": "schedules",
    "Datasets": "data",
    "Description": "service",
    "Execution actions": "actions",
    "Health": "service",
    "History": "histories",
    "Input files": "notebooks",
    "Kernels": "service",
    "Libraries": "data",
    "Notices": "service",
    "Proofs": "histories",
}
"""Modules by the tags of operations; the others are named after their tags."""
# Operations whose types have a module of their own, so that no module grows large.
APART = {
    "getExecutionProvenance": "provenance",
    "getExecutionChain": "comparisons",
    "getExecutionChanges": "comparisons",
    "compareNotebookVersions": "comparisons",
}
SET = {"AutoExecutionSetting", "ScheduleSetting"}
"""Parts of bodies that verbs of their own take by their members."""
BODIES_APART = {"notebooks": "notebook_bodies", "executions": "execution_bodies"}
NOT_MODELS = {"Code", "ProblemBody", "Problem", "Fault"}
# Members that the description calls objects, though they are of a type that it has.
TYPED = {
    ("ExecutionListDocument", "executions"): "list[ExecutionItem]",
    ("ProjectExecutions", "executions"): "list[ExecutionItem]",
}
# A type that is another one without some of its members: lists leave out what each cell did.
WITHOUT = {"ExecutionItem": ("ExecutionDocument", {"attemptHistory", "cellResults"})}
PLAIN = {"integer": "int", "number": "float", "boolean": "bool", "null": "None"}
MODELS = '"""Types of the API: {title}. Made by `make client-models`."""\n\n'


def openapi() -> dict[str, Any]:
    """The API's description of itself."""
    services = cast("Services", SimpleNamespace(settings=Settings()))
    edge = create_app(services)
    app: Any = edge._app
    found: dict[str, Any] = json.loads(app.state.openapi_json)
    return found


def snake(name: str) -> str:
    """A member's name, as Python writes it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def camel(name: str) -> str:
    """What msgspec makes of a field's name."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


class Models:
    """The types of one description, by the module that each belongs to."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.schemas: dict[str, Any] = document["components"]["schemas"]
        for name, (base, left_out) in WITHOUT.items():
            self.schemas[name] = _without(self.schemas[base], left_out)
        self.answers: set[str] = set()  # of whole answers, which have headers
        self.bodies: dict[str, bool] = {}  # of requests; whether it is a whole body
        self.modules: dict[str, str] = {}
        self._walk(document)

    def _walk(self, document: dict[str, Any]) -> None:
        found: dict[str, set[str]] = {}
        for operation in (each for path in document["paths"].values() for each in path.values()):
            tag = operation["tags"][0]
            module = APART.get(operation["operationId"]) or BY_TAG.get(tag) or tag.lower()
            answers = _references(operation["responses"])
            asked = _references(operation.get("requestBody", {}))
            self.answers |= answers - NOT_MODELS
            self.bodies |= dict.fromkeys(self._reachable(asked) - self.bodies.keys(), False)
            self.bodies |= dict.fromkeys(asked, True)
            for name in self._reachable(answers | asked):
                found.setdefault(name, set()).add(module)
        self.modules = {
            name: self._place(name, modules)
            for name, modules in sorted(found.items())
            if name not in NOT_MODELS and "properties" in self.schemas[name]
        }

    def _place(self, name: str, modules: set[str]) -> str:
        if len(modules) > 1:
            return COMMON
        (module,) = modules
        return BODIES_APART.get(module, module) if name in self.bodies else module

    def _reachable(self, names: set[str]) -> set[str]:
        seen: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += _references(self.schemas[name])
                waiting += [
                    word
                    for (owner, _), kind in TYPED.items()
                    if owner == name
                    for word in re.findall(r"\w+", kind)
                    if word in self.schemas
                ]
        return seen

    def files(self) -> dict[str, str]:
        """The text of each module, by its name."""
        by_module: dict[str, list[str]] = {}
        for name, module in self.modules.items():
            by_module.setdefault(module, []).append(name)
        texts = {f"{module}.py": self._module(module, names) for module, names in by_module.items()}
        return texts | {"__init__.py": self._package()}

    def _package(self) -> str:
        lines = [
            '"""The types of the API, each imported when it is asked for.',
            "",
            "Made by `make client-models`.",
            '"""',
            "",
            "import importlib",
            "from typing import TYPE_CHECKING, Any",
            "",
            "if TYPE_CHECKING:",
            *(
                f"    from nbledger_client.models.{module} import {name} as {name}"
                for name, module in self.modules.items()
            ),
            "",
            f"MODULES = {self.modules!r}",
            "",
            "",
            "def __getattr__(name: str) -> Any:",
            "    if name not in MODULES:",
            '        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")',
            '    return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)',
            "",
        ]
        return "\n".join(lines)

    def _module(self, module: str, names: list[str]) -> str:
        ordered = self._ordered(names)
        classes = [self._class(name) for name in ordered]
        classes += [
            self._fields_class(name) for name in ordered if self.bodies.get(name) or name in SET
        ]
        body = "\n\n\n".join(classes)
        imports = ["import msgspec"]
        if "Answered" in body:
            imports.append("from nbledger_client.answers import Answered")
        others: dict[str, set[str]] = {}
        for name in self._named(body):
            if self.modules[name] != module:
                others.setdefault(self.modules[name], set()).add(name)
        imports += [
            f"from nbledger_client.models.{other} import {', '.join(sorted(found))}"
            for other, found in sorted(others.items())
        ]
        typed = ("Any", "Required", "TypedDict")
        typing = [name for name in typed if re.search(rf"\b{name}\b", body)]
        before = ["from collections.abc import Sequence"] if "Sequence[" in body else []

        before += [f"from typing import {', '.join(typing)}"] if typing else []
        title = module.replace("_", " ")
        return MODELS.format(title=title) + "\n".join([*before, *imports]) + "\n\n\n" + body + "\n"

    def _named(self, text: str) -> list[str]:
        return [name for name in self.modules if re.search(rf"\b{name}\b", text)]

    def _ordered(self, names: list[str]) -> list[str]:
        """So that each comes after those that it names."""
        done: list[str] = []

        def take(name: str) -> None:
            if name in done or name not in names:
                return
            for other in self._named(" ".join(self._types(name).values())):
                take(other)
            done.append(name)

        for name in names:
            take(name)
        return done

    def _types(self, name: str) -> dict[str, str]:
        properties = self.schemas[name]["properties"]
        return {key: TYPED.get((name, key)) or self._type(kind) for key, kind in properties.items()}

    def _class(self, name: str) -> str:
        schema = self.schemas[name]
        base = "Answered" if name in self.answers else "msgspec.Struct"
        types = self._types(name)
        lines = [f'class {name}({base}, rename="camel", kw_only=True):', _doc(name, schema), ""]
        for key, kind in types.items():
            lines.append(self._field(name, key, kind, required=key in schema.get("required", [])))
        return "\n".join(lines)

    def _field(self, owner: str, key: str, kind: str, *, required: bool) -> str:
        name, default, factory = snake(key), None, None
        schema = self.schemas[owner]["properties"][key]
        if owner in self.bodies:
            kind = self._asked(kind)
        if name in ("from", "to"):
            name += "_" if name == "from" else ""
        if required:
            pass
        elif owner in self.bodies:
            kind, default = _union([kind, "msgspec.UnsetType"]), "msgspec.UNSET"
        elif isinstance(schema.get("default"), dict) and schema["default"]:
            members = ", ".join(f"{snake(k)}={v!r}" for k, v in schema["default"].items())
            factory = f"lambda: {kind}({members})"
        elif isinstance(schema.get("default"), list) and schema["default"]:
            factory = f"lambda: {schema['default']!r}"
        elif "default" in schema:
            default = repr(schema["default"])
        else:
            kind, default = kind if "None" in kind else f"{kind} | None", "None"
        renamed = camel(name) != key
        if renamed or factory:
            given = [f"default={default}"] if default else []
            given += [f"default_factory={factory}"] if factory else []
            given += [f"name={key!r}"] if renamed else []
            return f"    {name}: {kind} = msgspec.field({', '.join(given)})"
        return f"    {name}: {kind}" + ("" if default is None else f" = {default}")

    def _fields_class(self, name: str) -> str:
        """The same members as arguments of a verb."""
        schema = self.schemas[name]
        lines = [
            f"class {name}Fields(TypedDict, total=False):",
            f'    """What `{name}` is made of."""',
            "",
        ]
        for key, kind in self._types(name).items():
            field = "from_" if key == "from" else snake(key)
            asked = self._asked(kind)
            required = key in schema.get("required", [])
            lines.append(f"    {field}: {f'Required[{asked}]' if required else asked}")
        return "\n".join(lines)

    def _asked(self, kind: str) -> str:
        """What may be given: of a body's parts also objects, with the API's names of members."""
        plain = " | dict[str, Any]"
        asked = _union([part + plain * (part in self.bodies) for part in kind.split(" | ")])
        return re.sub(r"list\[(\w+)\]", self._or_plain, asked)

    def _or_plain(self, found: re.Match[str]) -> str:
        name = found[1]
        return f"Sequence[{name} | dict[str, Any]]" if name in self.bodies else found[0]

    def _type(self, schema: dict[str, Any]) -> str:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return name if "properties" in self.schemas[name] else "str"
        if "anyOf" in schema:
            return _union([self._type(each) for each in schema["anyOf"]])
        if "enum" in schema:
            return "bool" if all(isinstance(each, bool) for each in schema["enum"]) else "str"
        match schema.get("type"):
            case "array":
                return self._array(schema)
            case "object":
                inner = schema.get("additionalProperties")
                return f"dict[str, {self._type(inner) if isinstance(inner, dict) else 'Any'}]"
            case "string":
                return "str"
            case "integer" | "number" | "boolean" | "null" as plain:
                return PLAIN[plain]
            case _:
                return "Any"

    def _array(self, schema: dict[str, Any]) -> str:
        if "prefixItems" in schema:
            return f"tuple[{', '.join(map(self._type, schema['prefixItems']))}]"
        return f"list[{self._type(schema['items'])}]"


def _without(schema: dict[str, Any], left_out: set[str]) -> dict[str, Any]:
    kept = {key: kind for key, kind in schema["properties"].items() if key not in left_out}
    required = [key for key in schema["required"] if key not in left_out]
    description = "An execution as lists tell it: without what each attempt and each cell did."
    return {**schema, "properties": kept, "required": required, "description": description}


def _union(kinds: list[str]) -> str:
    found = list(dict.fromkeys(part for kind in kinds for part in kind.split(" | ")))
    if "float" in found and "int" in found:
        found.remove("int")
    if "None" in found:
        found = [*(each for each in found if each != "None"), "None"]
    return " | ".join(found)


def _references(schema: Any) -> set[str]:
    return set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(schema)))


def _doc(name: str, schema: dict[str, Any]) -> str:
    told = textwrap.dedent("    " + schema.get("description", f"A {name}.")).strip()
    told = told.replace("``", "`").replace("\\", "\\\\")
    paragraphs = [
        textwrap.fill(" ".join(part.split()), 95) for part in re.split(r"\n\s*\n", told) if part
    ]
    text = "\n\n".join(paragraphs)
    closed = text if "\n" not in text else f"{text}\n"
    return textwrap.indent(f'"""{closed}"""', "    ").replace("\n    \n", "\n\n")


def formatted(files: dict[str, str]) -> dict[str, str]:
    """The same, as ruff formats it."""
    return {name: _ruff(text) for name, text in files.items()}


def _ruff(text: str) -> str:
    ruff = str(Path(sys.executable).parent / "ruff")
    for command in (["check", "--select=I,F401", "--fix", "--quiet"], ["format"]):
        name = ["--stdin-filename", str(FOLDER / "any.py"), "-"]
        given = [ruff, *command, *name]
        text = subprocess.run(
            given, input=text, capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
    return text


def main() -> None:
    """Write the models."""
    FOLDER.mkdir(exist_ok=True)
    files = formatted(Models(openapi()).files())
    for file in FOLDER.glob("*.py"):
        if file.name not in files:
            file.unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
