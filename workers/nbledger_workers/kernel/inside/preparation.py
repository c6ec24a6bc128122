"""What every IPython kernel is sent before its first cell."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MODULES: Final = ("ipython.py", "programs.py")


def preparation(key: str) -> str:
    """Statements that make a kernel run the modules that are for its inside.

    They show nothing and leave no name behind. ``key`` is what the kernel marks its replies with,
    so that what a cell sends in its name is told apart.
    """
    folder = Path(__file__).parent
    names = f"{{'__name__': 'nbledger_inside', 'shell': get_ipython(), 'key': {key!r}}}"
    texts = [(folder / name).read_text("utf-8") for name in _MODULES]
    return "\n".join(f"exec(compile({text!r}, '<nbledger>', 'exec'), {names})" for text in texts)
