"""Names in answers: what is stored tells the ids of principals, clients are told their names.

The name is looked up for each answer, so that one which is erased is shown nowhere. Then its id is.
So is that of a principal of another tenant.
"""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from nbledger_infrastructure.postgres.principals import Names
from nbledger_projections.read_models.histories.entries import HistoryEntry

E = TypeVar("E", bound=HistoryEntry)

# Members stay as they are written: only that of the name is taken apart.
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_list_of_members = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


async def with_name(names: Names, tenant_id: UUID, document: bytes, member: str) -> bytes:
    """The JSON object with the name of the actor that its ``member`` tells."""
    return (await with_names(names, tenant_id, [document], member))[0]


async def with_names(
    names: Names, tenant_id: UUID, documents: Sequence[bytes], member: str
) -> list[bytes]:
    """The same of several objects."""
    taken_apart = [_members(document) for document in documents]
    await _name_all(names, tenant_id, taken_apart, member)
    return [_encode(members) for members in taken_apart]


async def with_names_within(
    names: Names, tenant_id: UUID, document: bytes, member: str, within: str
) -> bytes:
    """The same of each object in the list ``within``, and of the one that holds it if it has it."""
    members = _members(document)
    objects = _list_of_members(members[within])
    own = [members] if member in members else []
    await _name_all(names, tenant_id, [*own, *objects], member)
    members[within] = msgspec.Raw(_encode(objects))
    return _encode(members)


async def named(names: Names, tenant_id: UUID, entries: Sequence[E]) -> list[E]:
    """Events with the names of those who caused them, wanted them and erased them."""
    shown = await names.of(tenant_id, [actor for entry in entries for actor in _actors(entry)])
    return [_named(entry, shown) for entry in entries]


def _actors(entry: HistoryEntry) -> list[str]:
    erased_by = None if entry.erasure is None else entry.erasure.actor_id
    return [each for each in (entry.actor_id, entry.on_behalf_of, erased_by) if each is not None]


def _named(entry: E, shown: dict[str, str]) -> E:
    erasure, asked = entry.erasure, entry.on_behalf_of
    if erasure is not None and erasure.actor_id is not None:
        erasure = msgspec.structs.replace(erasure, actor=shown[erasure.actor_id])
    return msgspec.structs.replace(
        entry,
        actor=shown[entry.actor_id],
        on_behalf_of=None if asked is None else shown[asked],
        erasure=erasure,
    )


async def _name_all(
    names: Names, tenant_id: UUID, objects: Sequence[dict[str, Any]], member: str
) -> None:
    actors = [_text(each[member]) for each in objects]
    shown = await names.of(tenant_id, actors)
    for each, actor in zip(objects, actors, strict=True):
        each[member] = shown[actor]
