"""Notebook parameters: literals of the kernel's language, placed in a cell of their own.

A cell tagged `injected-parameters` goes right after the first cell tagged `parameters` and so
overrides the defaults written there. Values are only ever rendered as literals: no text of a
caller becomes code.
"""

from nbledger_domain.parameters.injection import (
    INJECTED_TAG,
    PARAMETERS_TAG,
    ParameterFault,
    assignments,
    find_tagged,
    inject,
    validate,
    validate_names,
)
from nbledger_domain.parameters.values import MAX_DEPTH, UnrenderableValueError
from nbledger_domain.vocabulary.languages import Language

__all__ = [
    "INJECTED_TAG",
    "MAX_DEPTH",
    "PARAMETERS_TAG",
    "Language",
    "ParameterFault",
    "UnrenderableValueError",
    "assignments",
    "find_tagged",
    "inject",
    "validate",
    "validate_names",
]
