"""What reading a notebook file has to say: warnings, and faults that refuse it."""

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.words import counted

MAX_TOLD = 100
"""Warnings, and faults, that are told of one file; of the rest only the number."""

MAX_SHOWN = 40
"""Characters of a name that are shown in a message."""


class Notes:
    """The warnings about a file, and its faults."""

    def __init__(self) -> None:
        self._warnings: list[str] = []
        self._more = 0
        self._faults: list[Fault] = []

    def warn(self, text: str) -> None:
        """Add a warning."""
        if len(self._warnings) < MAX_TOLD:
            self._warnings.append(text)
        else:
            self._more += 1

    def refuse(self, pointer: str, reason: str) -> None:
        """Add a fault; ``pointer`` is a JSON pointer into the file."""
        if len(self._faults) < MAX_TOLD:
            self._faults.append(Fault(pointer, reason))

    def check(self) -> None:
        """Raise :class:`InvalidInputError` when there are faults."""
        if self._faults:
            raise InvalidInputError(self._faults)

    @property
    def warnings(self) -> list[str]:
        """All of them, in order."""
        more = [f"and {counted(self._more, 'more warning')}"] if self._more else []
        return [*self._warnings, *more]


def shown(name: object) -> str:
    """``name`` in quotation marks, safe and short enough for a message."""
    text = str(name)
    return ascii(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")


def listed(names: object) -> str:
    """Some of ``names``, in quotation marks."""
    found = [shown(name) for name in names] if isinstance(names, (list, tuple, set, dict)) else []
    return ", ".join(found if len(found) <= 5 else [*found[:5], f"and {len(found) - 5} more"])
