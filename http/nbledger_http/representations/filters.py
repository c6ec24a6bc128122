"""Filters by who asked: clients say and see names, what is compared and kept are ids.

A filter that something is done by is recorded, and would keep the name otherwise.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.filtering import (
    AllOf,
    AnyOf,
    Comparison,
    Filter,
    FilterError,
    FilterFault,
    Not,
    parse,
    printed,
)
from nbledger_domain.filtering.parsing import MAX_FAULTS, values_in
from nbledger_infrastructure.actors import is_of_service, principal_id_of
from nbledger_infrastructure.postgres.principals import Names

_FIELD = "requestedBy"
_NOBODY = (
    "is nobody who asks here; something is done only to the executions of a name that there is, "
    "of a principal's id, or of a part of the service"
)
_TOO_MUCH = (
    "is beyond the limits of a filter once it has ids in place of the names of those who asked: "
    "it has to be shorter, or with fewer conditions or parentheses"
)

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


async def by_ids(names: Names, tenant_id: UUID, wanted: Filter) -> Filter:
    """The same filter with what executions hold in place of names: ids of principals.

    Where executions of before there were principals may hold the name, it is looked for as well.
    """
    actors = await names.actors(tenant_id, set(_values(wanted)))
    return _with_actors(wanted, actors)


async def by_recorded_ids(names: Names, tenant_id: UUID, text: str) -> tuple[Filter, str]:
    """The filter in ``text`` by ids, and the text of it that is recorded.

    Raises :class:`InvalidInputError` where that text would not read as the same any more, or has
    what may be a name, as nothing erases it again.
    """
    said = parse(text)
    actors = await names.actors(tenant_id, set(_values(said)))
    faults = [
        Fault("/filter", str(FilterFault(each.position, each.text[:50], _NOBODY)))
        for each in values_in(text)
        if each.field == _FIELD and _is_nobody(str(each.value), actors)
    ]
    if faults:
        raise InvalidInputError(faults[:MAX_FAULTS])
    wanted = _with_actors(said, actors)
    if wanted == said:
        return said, text
    kept = printed(wanted)
    if not _reads_as(wanted, kept):
        raise InvalidInputError([Fault("/filter", _TOO_MUCH)])
    return wanted, kept


def _is_nobody(actor: str, actors: Collection[str]) -> bool:
    known = actor in actors or is_of_service(actor)
    return not known and principal_id_of(actor) is None


def _with_actors(wanted: Filter, actors: Mapping[str, Sequence[str]]) -> Filter:
    return _replaced(wanted, lambda name: actors.get(name, (name,)))


def _reads_as(wanted: Filter, text: str) -> bool:
    try:
        return parse(text) == wanted
    except FilterError:
        return False


async def with_filter_by_names(
    names: Names, tenant_id: UUID, documents: Sequence[bytes]
) -> list[bytes]:
    """JSON objects whose ``filter``, if they have one, tells names in place of ids."""
    return [await _by_names(names, tenant_id, document) for document in documents]


async def _by_names(names: Names, tenant_id: UUID, document: bytes) -> bytes:
    members: dict[str, Any] = _members(document)
    text = _text(members["filter"]) if "filter" in members else ""
    if _FIELD not in text:
        return document
    try:
        wanted = parse(text)
    except FilterError:
        # Of another version: it is shown as it is recorded.
        return document
    shown = await names.of(tenant_id, _values(wanted))
    members["filter"] = printed(_replaced(wanted, lambda actor: (shown[actor],)))
    return _encode(members)


def _values(wanted: Filter) -> Iterator[str]:
    """Whom the filter names."""
    match wanted:
        case AllOf(operands) | AnyOf(operands):
            for each in operands:
                yield from _values(each)
        case Not(operand):
            yield from _values(operand)
        case Comparison(field, _, value) if field == _FIELD:
            yield str(value)
        case _:
            return


def _replaced(wanted: Filter, values: Callable[[str], Sequence[str]]) -> Filter:
    """The filter with each whom it names replaced by one of ``values``, whichever it is."""
    match wanted:
        case AllOf(operands) | AnyOf(operands):
            replaced = tuple(_replaced(each, values) for each in operands)
            return wanted if replaced == operands else _joined(type(wanted), replaced)
        case Not(operand):
            return Not(_replaced(operand, values))
        case Comparison(field, how, value) if field == _FIELD:
            compared = [Comparison(field, how, each) for each in values(str(value))]
            return _joined(AnyOf if how == "=" else AllOf, compared)
        case _:
            return wanted


def _joined(kind: type[AllOf] | type[AnyOf], operands: Sequence[Filter]) -> Filter:
    """The operands, each once: an id and the name of old events are shown as one name."""
    distinct = tuple(dict.fromkeys(operands))
    return distinct[0] if len(distinct) == 1 else kind(distinct)
