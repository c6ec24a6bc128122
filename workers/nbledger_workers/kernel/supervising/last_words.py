"""What a kernel that ended has written at last, without what every kernel writes at its start."""

from __future__ import annotations

import re
from typing import Final

from nbledger_workers.kernel.outputs.errors import clean

_MAX_CHARACTERS: Final = 2000

# ipykernel greets whoever has started it by hand, and warns of sockets that others could read.
_GREETINGS: Final = re.compile(
    r"^(?:"
    r"NOTE: When using the `ipython kernel` entry point.*"
    r"|To exit, you will have to explicitly quit this process.*"
    r'|"quit" from a client, or using Ctrl-\\.*'
    r"|To read more about this, see https?://\S+/ipython/issues/\d+"
    r"|To connect another client to this kernel, use:"
    r"|[ \t]+--existing \S+"
    r"|.*Kernel is running over TCP without encryption.*"
    r")[ \t]*(?:[\r\n]+|\Z)",
    re.MULTILINE,
)


def last_words(written: bytes) -> str:
    """The end of ``written``, what the kernel wrote to its stdout and stderr, for a message."""
    text = clean(written.decode("utf-8", "replace"))
    return _GREETINGS.sub("", text).strip()[-_MAX_CHARACTERS:]
