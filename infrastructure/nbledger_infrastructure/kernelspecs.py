"""The kernel that a notebook file names in its metadata: read from there, and written there."""

import re
from collections.abc import Mapping
from typing import Any

KERNEL_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
"""What names a kernel type: it is part of the names of topics."""

_LANGUAGES = {"python": "python3", "r": "r", "scala": "scala"}
_SPECS = {"python3": "python3", "ir": "r", "scala": "scala"}
_WORDS = re.compile(r"(python|scala|r)(?![a-z])", re.IGNORECASE)
_TOLD: Mapping[str, tuple[str, dict[str, str]]] = {
    "python3": (
        "Python 3",
        {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
    ),
    "r": ("R", {"name": "R", "file_extension": ".r", "mimetype": "text/x-r-source"}),
    "scala": ("Scala", {"name": "scala", "file_extension": ".sc", "mimetype": "text/x-scala"}),
}


def kernel_type_of(metadata: Mapping[str, Any], kernels: Mapping[str, str]) -> str | None:
    """The kernel type that a notebook's ``metadata`` names; ``None`` where it names none.

    ``kernels`` maps kernel types to kernelspec names, as the setting ``worker.kernels`` does. A
    name that it has for one type alone says most; then come the languages and the usual names. A
    kernel of another language is a kernel type of its own, under the name of its kernelspec.
    """
    spec, info = metadata.get("kernelspec"), metadata.get("language_info")
    name = _member(spec, "name")
    mapped = [kernel_type for kernel_type, known in kernels.items() if known == name]
    if len(mapped) == 1:
        return mapped[0]
    languages = [_member(spec, "language"), _member(info, "name")]
    for language in languages:
        if language.lower() in _LANGUAGES:
            return _LANGUAGES[language.lower()]
    if name in _SPECS:
        return _SPECS[name]
    told = [each for each in (name, *languages) if KERNEL_TYPE.match(each)]
    if not any(languages):
        # Without a language, names such as python3.9 or "Python 3 (mine)" are all there is.
        for each in (name, _member(spec, "display_name")):
            if found := _WORDS.match(each):
                return _LANGUAGES[found[1].lower()]
    return told[0] if told else None


def _member(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def with_kernelspec(
    metadata: Mapping[str, Any], kernel_type: str, kernels: Mapping[str, str]
) -> dict[str, Any]:
    """``metadata`` that names the kernelspec of ``kernel_type``, and its language where known."""
    display_name, language_info = _TOLD.get(kernel_type, (kernel_type, {}))
    spec = {"display_name": display_name, "name": kernels.get(kernel_type, kernel_type)}
    if not language_info:
        return {**metadata, "kernelspec": spec}
    spec["language"] = language_info["name"]
    return {**metadata, "kernelspec": spec, "language_info": language_info}
