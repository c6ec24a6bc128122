"""What every IPython kernel is sent before its first cell."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MODULES: Final = ("ipython.py", "programs.py")


def preparation() -> str:
    """Statements that make a kernel run the modules that are for its inside.

    They show nothing and leave no name behind.
    """
    folder = Path(__file__).parent
    names = "{'__name__': 'nbledger_inside', 'shell': get_ipython()}"
    texts = [(folder / name).read_text("utf-8") for name in _MODULES]
    return "\n".join(f"exec(compile({text!r}, '<nbledger>', 'exec'), {names})" for text in texts)
