"""Errors of publishing events again."""

from uuid import UUID

from nbledger_domain.errors import DomainError


class ReplayNotFoundError(DomainError):
    """There is no such replay of events."""

    code = "replay_not_found"

    def __init__(self, replay_id: UUID) -> None:
        super().__init__(f"There is no replay {replay_id} in this project.")


class ReplayEndedError(DomainError):
    """The replay of events has ended."""

    code = "replay_ended"

    def __init__(self, replay_id: UUID) -> None:
        super().__init__(f"Replay {replay_id} has ended.")


class TooManyReplaysError(DomainError):
    """The project has as many replays under way as it may."""

    code = "too_many_replays"

    def __init__(self, limit: int) -> None:
        super().__init__(f"A project may have {limit} replays under way; cancel one, or wait.")
