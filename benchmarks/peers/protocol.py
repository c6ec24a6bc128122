"""How the benchmark drives a peer: one JSON request a line on stdin, one JSON answer on stdout.

Peers run in processes of their own, with packages of their own, so neither side's imports,
garbage collector or event loop weigh on the other's figures.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until stdin closes.

    A request is an object whose member `do` names the handler; the rest are its arguments.
    A failing handler ends the process with its traceback on stderr: a benchmark that goes on
    after an error would print a figure for something else.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    for line in sys.stdin:
        request = json.loads(line)
        answer = handlers[request.pop("do")](**request)
        answers.write(json.dumps(answer) + "\n")
