"""The kernel that a notebook file names in its metadata: read from there, and written there."""

from collections.abc import Mapping
from typing import Any

_LANGUAGES = {"python": "python3", "r": "r", "scala": "scala"}
_SPECS = {"python3": "python3", "ir": "r", "scala": "scala"}
_TOLD: Mapping[str, tuple[str, dict[str, str]]] = {
    "python3": (
        "Python 3",
        {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
    ),
    "r": ("R", {"name": "R", "file_extension": ".r", "mimetype": "text/x-r-source"}),
    "scala": ("Scala", {"name": "scala", "file_extension": ".sc", "mimetype": "text/x-scala"}),
}


def kernel_type_of(metadata: Mapping[str, Any], kernels: Mapping[str, str]) -> str | None:
    """The kernel type that a notebook's ``metadata`` names; ``None`` where there is none known.

    ``kernels`` maps kernel types to kernelspec names, as the setting ``worker.kernels`` does. A
    name that it has for one type alone says most; then come the languages and the usual names.
    """
    spec, info = metadata.get("kernelspec"), metadata.get("language_info")
    name = spec.get("name") if isinstance(spec, dict) else None
    mapped = [kernel_type for kernel_type, known in kernels.items() if known == name]
    if len(mapped) == 1:
        return mapped[0]
    for source, key in ((spec, "language"), (info, "name")):
        language = source.get(key) if isinstance(source, dict) else None
        if isinstance(language, str) and language.lower() in _LANGUAGES:
            return _LANGUAGES[language.lower()]
    return _SPECS.get(str(name))


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
