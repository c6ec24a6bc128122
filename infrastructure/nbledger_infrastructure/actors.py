"""Who acts, as events name it: the id of a principal, or a part of the service.

The id is random, so that nothing of an event tells a name; names are in table ``principal``. Parts
of the service have fixed names, which no id is like.
"""

from functools import lru_cache
from typing import Final, Literal
from uuid import UUID

SERVICE: Final = "nbledger"
"""What finishes what others began, such as a deletion."""

ACTIONS: Final = "execution-actions"
"""What carries out what was asked for of many executions."""

AUTOMATION: Final = "automation"
NOTICES: Final = "notices"
SCHEDULER: Final = "scheduler"
SWEEPER: Final = "sweeper"

WEBHOOKS: Final = "webhooks"

_SYSTEM: Final = frozenset({SERVICE, ACTIONS, AUTOMATION, NOTICES, SCHEDULER, SWEEPER, WEBHOOKS})
_WORKER: Final = "worker:"

AuthType = Literal["api_key", "service_account", "system"]
"""The kinds of actors in the words of the CloudEvents extension authcontext."""


def worker(worker_id: str) -> str:
    """The actor that a worker is."""
    return _WORKER + worker_id


def is_of_service(actor: str) -> bool:
    """Whether a part of the service acts that has no more than its fixed name."""
    return actor in _SYSTEM


@lru_cache(maxsize=4096)
def principal_id_of(actor: str) -> UUID | None:
    """The principal that acts; ``None`` for a part of the service.

    Also ``None`` for the name of a token, which events held before there were principals.
    """
    if len(actor) != 36:
        return None
    try:
        found = UUID(actor)
    except ValueError:
        return None
    return found if str(found) == actor else None


def auth_context(actor: str) -> tuple[AuthType, str | None]:
    """What may be published of an actor: its kind, and its id.

    There is no id for the name of a token, which would be a person's.
    """
    if actor in _SYSTEM:
        return "system", actor
    if actor.startswith(_WORKER):
        return "service_account", actor
    return "api_key", None if principal_id_of(actor) is None else actor
