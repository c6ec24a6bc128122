"""Where settings come from: a TOML file, overlaid by the environment, checked at start."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from nbledger_infrastructure.settings import Settings


class SettingsError(Exception):
    """A setting is wrong; the message names each one, where it came from, and why."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


SECTIONS: dict[str, type[msgspec.Struct]] = get_type_hints(Settings)


def environment_names() -> dict[str, tuple[str, str]]:
    """Every environment variable that is a setting, with its section and name."""
    return {
        f"NBLEDGER_{section}_{field}".upper(): (section, field)
        for section, struct in SECTIONS.items()
        for field in struct.__struct_fields__
    }


def load(environ: Mapping[str, str] | None = None, *, config: Path | None = None) -> Settings:
    """Read and check the settings.

    Raises :class:`SettingsError` with every fault at once.
    """
    environ = os.environ if environ is None else environ
    faults: list[str] = []
    given = _from_file(config or config_file(environ), faults)
    _overlay(given, environ, faults)
    sections: dict[str, Any] = {}
    for section, struct in SECTIONS.items():
        sections[section] = _check(struct, given.get(section, {}), faults)
    if faults:
        raise SettingsError(faults)
    return Settings(**sections)


def require(settings: Settings, *names: str) -> None:
    """Raise :class:`SettingsError` naming each of ``names`` (``section.field``) left empty."""
    faults = []
    for name in names:
        section, field = name.split(".")
        if not getattr(getattr(settings, section), field):
            variable = f"NBLEDGER_{section}_{field}".upper()
            faults.append(f"{variable} (or {field} in [{section}]): must be set for this command")
    if faults:
        raise SettingsError(faults)


def config_file(environ: Mapping[str, str] | None = None) -> Path | None:
    """The file that settings are read from; None where there is none."""
    environ = os.environ if environ is None else environ
    if named := environ.get("NBLEDGER_CONFIG"):
        return Path(named)
    default = Path("nbledger.toml")
    return default if default.exists() else None


def _from_file(path: Path | None, faults: list[str]) -> dict[str, dict[str, tuple[Any, str]]]:
    """Sections of the file; every value with the name of its source."""
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        faults.append(f"{path}: cannot be read: {error.strerror}")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(f"{path}: is not valid TOML: {error}")
        return {}
    given: dict[str, dict[str, tuple[Any, str]]] = {}
    for section, table in tables.items():
        if section not in SECTIONS or not isinstance(table, dict):
            faults.append(f"{path}: [{section}] is no section; there are {', '.join(SECTIONS)}")
            continue
        known = SECTIONS[section].__struct_fields__
        for field, value in table.items():
            if field in known:
                source = f"{path}: {field} in [{section}]"
                given.setdefault(section, {})[field] = (value, source)
            else:
                faults.append(
                    f"{path}: [{section}] has no setting {field!r}; there are {', '.join(known)}"
                )
    return given


def _overlay(
    given: dict[str, dict[str, tuple[Any, str]]],
    environ: Mapping[str, str],
    faults: list[str],
) -> None:
    names = environment_names()
    prefixes = tuple(f"NBLEDGER_{section.upper()}_" for section in SECTIONS)
    for variable, text in environ.items():
        if variable in names:
            section, field = names[variable]
            given.setdefault(section, {})[field] = (_parse(section, field, text), variable)
        elif variable.startswith(prefixes):
            near = difflib.get_close_matches(variable, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            faults.append(f"{variable}: there is no such setting{hint}")


def _parse(section: str, field: str, text: str) -> Any:
    default = getattr(SECTIONS[section](), field)
    if isinstance(default, dict | list):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return text


def _check(
    struct: type[msgspec.Struct],
    given: dict[str, tuple[Any, str]],
    faults: list[str],
) -> msgspec.Struct:
    """The section with all its good values; a fault is added for every bad one."""
    good: dict[str, Any] = {}
    for field, (value, source) in given.items():
        try:
            checked = msgspec.convert({field: value}, struct, strict=False)
        except msgspec.ValidationError as error:
            faults.append(f"{source}: {_reason(error, value)}")
        else:
            good[field] = getattr(checked, field)
    return struct(**good)


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


def _reason(error: msgspec.ValidationError, value: Any) -> str:
    """What is wrong with ``value``, without the names of Python's types."""
    reason = str(error).split(" - at ")[0]
    for name, kind in _KINDS.items():
        if reason.startswith(f"Expected `{name}`, got"):
            return f"{value!r} is not {kind}"
    reason = reason.replace("Expected `int`", "must be a whole number")
    reason = reason.replace("Expected `float`", "must be a number")
    reason = reason.replace("Expected `str`", "must be text")
    return f"{value!r}: {reason[0].lower()}{reason[1:]}"
