"""The filter of executions: one language for lists and for what is done to many at once.

A filter is a text in the form of AIP-160, such as
``status = Error AND tag:nightly AND requested >= "2026-11-01T00:00:00Z"``. It is read once, by
:func:`parse`; what reads it compiles or evaluates :data:`Filter`.
"""

from nbledger_domain.filtering.fields import FIELDS, Facts, Field
from nbledger_domain.filtering.parsing import FilterError, FilterFault, parse
from nbledger_domain.filtering.terms import (
    EVERYTHING,
    AllOf,
    AnyOf,
    Comparison,
    Filter,
    Not,
    Present,
    matches,
    printed,
)

__all__ = [
    "EVERYTHING",
    "FIELDS",
    "AllOf",
    "AnyOf",
    "Comparison",
    "Facts",
    "Field",
    "Filter",
    "FilterError",
    "FilterFault",
    "Not",
    "Present",
    "matches",
    "parse",
    "printed",
]
