"""What several groups of verbs have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import msgspec

from nbledger_client.core.requests import Call, Id, Part, path_of
from nbledger_client.core.steps import Item, Items
from nbledger_client.models.histories import ChangedEntry, History

if TYPE_CHECKING:
    from nbledger_client.core.conversation import Conversation

Time = str | datetime
"""A time with its zone, as text (RFC 3339) or as what it is."""

Source = str | Path | bytes
"""A file: its path, or its content."""


class HasNotebookId(Protocol):
    """What tells of a notebook."""

    notebook_id: str


class HasExecutionId(Protocol):
    """What tells of an execution."""

    notebook_id: str
    execution_id: str


class HasDatasetId(Protocol):
    """What tells of a dataset."""

    dataset_id: str


Notebook = Id | HasNotebookId
"""A notebook: its id, or what was read of it."""

Execution = HasExecutionId | tuple[Id, Id]
"""An execution: what was read of it, or the ids of its notebook and of itself."""

Dataset = Id | HasDatasetId
"""A dataset: its id, or what was read of it."""


def notebook_path(notebook: Notebook, *rest: object) -> str:
    """The address of a notebook, or of something below it.

    >>> notebook_path("1", "history")
    'notebook/1/history'
    """
    return path_of("notebook", getattr(notebook, "notebook_id", notebook), *rest)


def execution_path(execution: Execution, *rest: object) -> str:
    """The address of an execution, or of something below it.

    >>> execution_path(("1", "2"), "cancel")
    'notebook/1/execution/2/cancel'
    """
    if isinstance(execution, tuple):
        notebook_id, execution_id = execution
    else:
        notebook_id, execution_id = execution.notebook_id, execution.execution_id
    return notebook_path(notebook_id, "execution", execution_id, *rest)


def dataset_path(dataset: Dataset, *rest: object) -> str:
    """The address of a dataset, or of something below it."""
    return path_of("dataset", getattr(dataset, "dataset_id", dataset), *rest)


def keyed(key: str | None) -> dict[str, str]:
    """The header of a key that the caller has chosen.

    >>> keyed("nightly-2026-11-29")
    {'Idempotency-Key': '"nightly-2026-11-29"'}
    """
    if key is None:
        return {}
    return {"Idempotency-Key": key if key.startswith('"') else f'"{key}"'}


def part(source: Source, *, name: str | None = None, media_type: str) -> Part:
    """A file of a form, under the name that it has or is given."""
    if isinstance(source, bytes):
        if name is None:
            raise ValueError("A file that is given by its content needs a name.")
        return Part(name, source, media_type)
    return Part(name or Path(source).name, Path(source), media_type)


def fields(**given: Any) -> dict[str, str]:
    """The fields of a form that have a value.

    >>> fields(path="data/a.csv", replace=True, name=None)
    {'path': 'data/a.csv', 'replace': 'true'}
    """
    return {name: _field(value) for name, value in given.items() if value is not None}


def _field(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


class HistoryFields(TypedDict, total=False):
    """Which events are told, and in which order.

    Attributes:
        after: only events after this position.
        before: only events before this position.
        sort: `position` for the oldest first, `-position` for the newest.
        type: only events of these types, or whose types begin so.
        actor: only what these have done.
        from_: only events recorded then or later.
        to: only events recorded before then.
        page_size: how many are asked for at once.
    """

    after: int
    before: int
    sort: str
    type: str | Sequence[str]
    actor: str | Sequence[str]
    from_: Time
    to: Time
    page_size: int


def history_query(asked: HistoryFields, **more: Any) -> dict[str, Any]:
    """The parameters of a request for events.

    >>> history_query({"from_": "2026-11-29T00:00:00Z", "page_size": 10})
    {'from': '2026-11-29T00:00:00Z', 'limit': 10}
    """
    names = {"from_": "from", "page_size": "limit"}
    unknown = asked.keys() - HistoryFields.__annotations__.keys()
    if unknown:
        raise TypeError(f"Unknown: {', '.join(sorted(unknown))}.")
    return {names.get(key, key): value for key, value in asked.items()} | more


def history(
    talk: Conversation, path: str, asked: HistoryFields, **more: Any
) -> Items[ChangedEntry]:
    """The events of a history, page by page."""
    query = history_query(asked, **more)
    while True:
        found = yield from talk.ask(Call("GET", path, History, query))
        for each in found.events:
            yield Item(each)
        if found.next is None:
            return
        query = next_page(query, found.next)


def next_page(query: Mapping[str, Any], position: int) -> dict[str, Any]:
    """The query of the page after one that ended at ``position``."""
    newest_first = str(query.get("sort", "")).startswith("-")
    return {**query, "before" if newest_first else "after": position}
