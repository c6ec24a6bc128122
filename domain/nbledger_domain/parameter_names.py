"""Which names a cell sets: those that a notebook takes as parameters, and those it sets itself."""

from __future__ import annotations

import re
import symtable
import warnings
from typing import Final

from nbledger_domain.parameters.python_declarations import without_magics
from nbledger_domain.vocabulary.languages import Language

MAX_SOURCE: Final = 200_000
"""Characters of a cell that are looked at."""

_PYTHON = re.compile(r"^[ \t]*([^\W\d]\w*)[ \t]*(?::[^=\n]*)?=(?!=)", re.MULTILINE)
_R = re.compile(
    r"^[ \t]*(?:`([^`\n]+)`|((?:[A-Za-z]|\.(?![0-9]))[\w.]*))[ \t]*(?:<<?-|=(?!=))", re.MULTILINE
)
_SCALA = re.compile(
    r"^[ \t]*(?:(?:final|implicit|lazy)[ \t]+)*(?:val|var)[ \t]+([A-Za-z_]\w*)", re.MULTILINE
)


def names_set(source: str, language: Language) -> list[str]:
    """The names of variables that a cell of ``source`` sets, in no particular order but once.

    Of Python all are told that its compiler finds; of the other languages, and of Python with
    commands of IPython in its statements, those that a line begins with.
    """
    text = source[:MAX_SOURCE]
    if language == "r":
        return list(dict.fromkeys(quoted or plain for quoted, plain in _R.findall(text)))
    if language == "scala":
        return list(dict.fromkeys(_SCALA.findall(text)))
    found = _python(without_magics(text))
    return list(dict.fromkeys(_PYTHON.findall(text))) if found is None else found


def _python(source: str) -> list[str] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = symtable.symtable(source, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return [
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_assigned() or symbol.is_imported()
    ]
