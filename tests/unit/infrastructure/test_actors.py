"""What is published of those who act."""

from __future__ import annotations

from uuid import UUID

import pytest

from nbledger_infrastructure import actors
from nbledger_infrastructure.actors import auth_context, principal_id_of

ID = "7d9c6d2c-3c51-4c42-9be5-6b1f0a8d2f8e"


@pytest.mark.parametrize(
    ("actor", "told"),
    [
        (ID, ("api_key", ID)),
        (actors.SCHEDULER, ("system", "scheduler")),
        (actors.SWEEPER, ("system", "sweeper")),
        (actors.ACTIONS, ("system", "execution-actions")),
        (actors.NOTICES, ("system", "notices")),
        (actors.AUTOMATION, ("system", "automation")),
        (actors.SERVICE, ("system", "nbledger")),
        (actors.worker("w-1"), ("service_account", "worker:w-1")),
        # Names of tokens, as there are in events of before.
        ("ann@example.org", ("api_key", None)),
        (ID.upper(), ("api_key", None)),
        (f"{{{ID}}}", ("api_key", None)),
        (ID.replace("-", "x"), ("api_key", None)),
        ("", ("api_key", None)),
    ],
)
def test_kind_and_id_are_told_and_no_name(actor: str, told: tuple[str, str | None]) -> None:
    assert auth_context(actor) == told
    principal = principal_id_of(actor)
    assert principal == (UUID(ID) if told == ("api_key", ID) else None)
