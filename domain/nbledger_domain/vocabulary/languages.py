"""Kernel types, the languages of their notebooks, and how notebook files name both."""

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

Language = Literal["python", "r", "scala"]
"""A language that notebooks can be given parameters in."""

KERNEL_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
"""The name of a kernel type, which is part of the names of topics."""

DEFAULT_KERNEL_TYPE = "python3"


class KernelType(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel type of the API.

    ``kernelspec`` is the usual name of its kernelspec. ``display_name``, ``name``,
    ``file_extension`` and ``mimetype`` are what notebook files say of it and its language.
    """

    language: Language
    kernelspec: str
    display_name: str
    name: str
    file_extension: str
    mimetype: str


KERNEL_TYPES: Mapping[str, KernelType] = {
    DEFAULT_KERNEL_TYPE: KernelType(
        language="python",
        kernelspec="python3",
        display_name="Python 3",
        name="python",
        file_extension=".py",
        mimetype="text/x-python",
    ),
    "r": KernelType(
        language="r",
        kernelspec="ir",
        display_name="R",
        name="R",
        file_extension=".r",
        mimetype="text/x-r-source",
    ),
    "scala": KernelType(
        language="scala",
        kernelspec="scala",
        display_name="Scala",
        name="scala",
        file_extension=".sc",
        mimetype="text/x-scala",
    ),
}

LANGUAGES: Mapping[str, Language] = {
    kernel_type: known.language for kernel_type, known in KERNEL_TYPES.items()
}
"""The language of each kernel type."""

KERNELSPECS: Mapping[str, str] = {
    kernel_type: known.kernelspec for kernel_type, known in KERNEL_TYPES.items()
}
"""The usual kernelspec of each kernel type."""

BY_NAME: Mapping[str, Language] = {
    known.language: known.language for known in KERNEL_TYPES.values()
}
"""Languages by what they are called in lower case."""
