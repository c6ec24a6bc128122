"""A client of nbledger's API: everything that it offers, as methods.

>>> with Client() as client:
...     [made] = [each for each in client.notebooks.list() if each.notebook_name == "Loans"]
...     asked = client.executions.run(made, parameters={"limit": 2})
...     client.executions.wait(asked).status
'Completed'

:class:`AsyncClient` has the same verbs, awaited. Types of answers are in
:mod:`nbledger_client.models`, errors in :mod:`nbledger_client.errors`. Names of this package are
loaded when they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbledger_client.answers import Answer, Answered
    from nbledger_client.clients import AsyncClient, Client
    from nbledger_client.configuration import Connection, Given, resolve
    from nbledger_client.core.repeating import Retries
    from nbledger_client.errors import ApiError, Fault, NbledgerError, NotEndedError, TransportError

__all__ = [
    "Answer",
    "Answered",
    "ApiError",
    "AsyncClient",
    "Client",
    "Connection",
    "Fault",
    "Given",
    "NbledgerError",
    "NotEndedError",
    "Retries",
    "TransportError",
    "resolve",
]

_MODULES = {
    "Answer": "answers",
    "Answered": "answers",
    "AsyncClient": "clients",
    "Client": "clients",
    "Connection": "configuration",
    "Given": "configuration",
    "Retries": "core.repeating",
    "resolve": "configuration",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'errors')}")
    return getattr(module, name)
