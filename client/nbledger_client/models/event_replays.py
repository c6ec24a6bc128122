"""Types of the API: event replays. Made by `make client-models`."""

from typing import Required, TypedDict

import msgspec

from nbledger_client.answers import Answered


class ReplayDocument(Answered, rename="camel", kw_only=True):
    """A replay, and how far it is.

    The broker has everything up to `position`; that is `to` in the end. `published` counts
    messages. `restarts` tells how often the broker had forgotten the topic, and got everything
    from the first event on. `problem` says why it failed, or does not go on at the moment.
    """

    replay_id: str
    topic: str
    from_: int
    to: int
    state: str
    position: int
    published: int
    restarts: int
    problem: str | None
    requested_by: str
    requested_at: str
    updated_at: str
    ended_at: str | None


class ReplayList(Answered, rename="camel", kw_only=True):
    """A page of the project's replays, the newest first."""

    total_count: int
    page: int
    page_size: int
    has_next_page: bool
    replays: list[ReplayDocument]


class ReplayRequest(msgspec.Struct, rename="camel", kw_only=True):
    """Which events of the project are published again, and where to."""

    topic: str
    from_: int | msgspec.UnsetType = msgspec.UNSET
    to: int | msgspec.UnsetType | None = msgspec.UNSET
    confirm_live: bool | msgspec.UnsetType = msgspec.UNSET


class ReplayRequestFields(TypedDict, total=False):
    """What `ReplayRequest` is made of."""

    topic: Required[str]
    from_: int
    to: int | None
    confirm_live: bool
