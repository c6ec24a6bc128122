"""What members of events mean: as the docstrings of their types say, else as is common to all."""

import re
from collections.abc import Iterator
from inspect import cleandoc
from itertools import chain
from typing import Any

import msgspec

from nbledger_schemas.state_words import STATE_WORDS
from nbledger_schemas.words import WORDS

_NAME = re.compile(r"``([^`]+)``")
_SENTENCE = re.compile(r"(?<=\.)\s+(?=[A-Z`])")


def paragraphs(kind: type) -> list[str]:
    """The docstring of ``kind``, with members by the names that they have on the wire."""
    return [
        _on_the_wire(" ".join(each.split()), kind) for each in next(_docstrings(kind)).split("\n\n")
    ]


def meaning(kind: type, field: str) -> str:
    """What the member ``field`` of ``kind`` means.

    Raises ``LookupError`` where neither a docstring nor the list of common names says it.
    """
    name = f"{kind.__name__}.{field}"
    word = WORDS.get(name) or STATE_WORDS.get(name)
    if word is None:
        told = [each for each in _sentences(kind) if f"``{field}``" in each]
        word = " ".join(told) or WORDS.get(field, "")
    if not word:
        raise LookupError(f"{kind.__name__}.{field}: no docstring says what it is, nor words.py")
    return _on_the_wire(word, kind)


def _sentences(kind: type) -> list[str]:
    whole = [
        " ".join(paragraph.split())
        for text in _docstrings(kind)
        for paragraph in text.split("\n\n")
    ]
    return list(chain.from_iterable(map(_SENTENCE.split, whole)))


def _docstrings(kind: type) -> Iterator[str]:
    """Those of ``kind`` and its bases; the event library derives a class of most events."""
    for each in kind.__mro__:
        if issubclass(each, msgspec.Struct) and each is not msgspec.Struct and each.__doc__:
            yield cleandoc(each.__doc__)


def _on_the_wire(text: str, kind: Any) -> str:
    names = dict(
        zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
        if issubclass(kind, msgspec.Struct)
        else ()
    )
    return _NAME.sub(lambda match: f"`{names.get(match[1], match[1])}`", text)
