"""Lists of logs that a witness knows, in the form ``logs/v0`` of the witness network.

After the header each log has a line ``vkey <key>``, and ``origin <origin>`` where its origin is not
the key's name. Lines with other words, empty lines and comments are passed over.
"""

from collections.abc import Mapping
from typing import Final

from nbledger_domain.transparency.notes import ED25519, Key, NoteError

HEADER: Final = "logs/v0"


class LogListError(ValueError):
    """A text that is no list of logs."""


def read_log_list(told: str) -> Mapping[str, tuple[Key, ...]]:
    """The keys of each log, by its origin; several where a key was replaced.

    Raises :class:`LogListError`, which names the line.
    """
    logs: list[tuple[str, Key]] = []
    begun = False
    for number, line in enumerate(told.splitlines(), 1):
        word, _, value = line.strip().partition(" ")
        if not word or word.startswith("#"):
            continue
        if not begun and line.strip() != HEADER:
            raise LogListError(f"line {number}: a list of logs begins with {HEADER}")
        if word == "vkey":
            logs.append(_log(number, value))
        elif word == "origin":
            if not logs:
                raise LogListError(f"line {number}: an origin comes after the key of its log")
            logs[-1] = (value.strip(), logs[-1][1])
        begun = True
    if not begun:
        raise LogListError(f"a list of logs begins with {HEADER}")
    keys: dict[str, tuple[Key, ...]] = {}
    for origin, key in logs:
        keys[origin] = (*keys.get(origin, ()), key)
    return keys


def _log(number: int, encoded: str) -> tuple[str, Key]:
    try:
        key = Key.read(encoded.strip())
    except NoteError as error:
        raise LogListError(f"line {number}: {error}") from error
    if key.kind != ED25519 or len(key.public) != 32:
        raise LogListError(f"line {number}: the key {key.name} is no Ed25519 key of a log")
    return key.name, key
