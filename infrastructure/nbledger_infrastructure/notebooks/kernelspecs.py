"""The kernel that a notebook file names in its metadata: read from there, and written there."""

import re
from collections.abc import Mapping
from typing import Any

from nbledger_domain.vocabulary.languages import KERNEL_TYPE, KERNEL_TYPES

_OF_LANGUAGE: Mapping[str, str] = {
    known.language: kernel_type for kernel_type, known in KERNEL_TYPES.items()
}
_OF_SPEC = {known.kernelspec: kernel_type for kernel_type, known in KERNEL_TYPES.items()}
_WORDS = re.compile(r"(python|scala|r)(?![a-z])", re.IGNORECASE)


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
        if language.lower() in _OF_LANGUAGE:
            return _OF_LANGUAGE[language.lower()]
    if name in _OF_SPEC:
        return _OF_SPEC[name]
    told = [each for each in (name, *languages) if KERNEL_TYPE.match(each)]
    if not any(languages):
        # Without a language, names such as python3.9 or "Python 3 (mine)" are all there is.
        for each in (name, _member(spec, "display_name")):
            if found := _WORDS.match(each):
                return _OF_LANGUAGE[found[1].lower()]
    return told[0] if told else None


def _member(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def with_kernelspec(
    metadata: Mapping[str, Any], kernel_type: str, kernels: Mapping[str, str]
) -> dict[str, Any]:
    """``metadata`` that names the kernelspec of ``kernel_type``, and its language where known."""
    known = KERNEL_TYPES.get(kernel_type)
    name = kernels.get(kernel_type, kernel_type)
    if known is None:
        return {**metadata, "kernelspec": {"display_name": kernel_type, "name": name}}
    spec = {"display_name": known.display_name, "name": name, "language": known.name}
    info = {
        "name": known.name,
        "file_extension": known.file_extension,
        "mimetype": known.mimetype,
    }
    return {**metadata, "kernelspec": spec, "language_info": info}
