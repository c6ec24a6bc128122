"""Signed notes, as C2SP signed-note defines them: a text, and below it who signed it."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

ED25519: Final = 0x01
"""The type of a signature of the text itself."""

COSIGNATURE: Final = 0x04
"""The type of a witness's signature with its time (C2SP tlog-cosignature)."""

ML_DSA_44: Final = 0x06
"""The type of a post-quantum cosignature, of which keys are read and signatures passed over."""

MOST_SIGNATURES: Final = 100

_NAME: Final = re.compile(r"[^\s+\x00-\x1f\x7f]+")
MOST_NAME_LETTERS: Final = 200

_OWN_NAME: Final = re.compile(
    r"[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::[0-9]{1,5})?(?:/[a-z0-9._~%!$&'()*,;=:@-]+)*", re.IGNORECASE
)
_LINE: Final = re.compile(r"— (?P<name>\S+) (?P<signature>\S+)")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


def own_name(text: str) -> str:
    """``text``, where somebody may name a key of theirs so for ever.

    That is like an address of a domain of theirs, without a scheme, as the specifications ask for;
    names of others' keys may be any. Raises :class:`NoteError`.
    """
    if "://" in text:
        raise NoteError(f"{text!r} has a scheme: a name begins with a domain")
    if len(text) > MOST_NAME_LETTERS:
        raise NoteError(f"a name has at most {MOST_NAME_LETTERS} characters")
    if not _OWN_NAME.fullmatch(text):
        raise NoteError(f"{text!r} is not like an address of a domain: audit.example.com/w1")
    return text


class NoteError(ValueError):
    """A text that is no signed note, or no key of one."""


class Key(msgspec.Struct, frozen=True):
    """A public key under its name; ``kind`` is the type of its signatures."""

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise NoteError(f"{self.name!r} is no name of a key: it has blanks, a plus or nothing")

    @property
    def key_id(self) -> bytes:
        """The four bytes by which its signatures name it, besides its name."""
        told = self.name.encode() + b"\n" + bytes((self.kind,)) + self.public
        return hashlib.sha256(told).digest()[:4]

    @property
    def encoded(self) -> str:
        """The key in one word, for policies and settings (a "vkey")."""
        encoded = base64.b64encode(bytes((self.kind,)) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def read(cls, encoded: str) -> "Key":
        """Read what :attr:`encoded` gives. Raises :class:`NoteError`."""
        # The last part may have a plus of its own.
        name, _, rest = encoded.partition("+")
        key_id, _, material = rest.partition("+")
        decoded = _base64(material)
        if not decoded:
            raise NoteError("a key is <name>+<id>+<base64>")
        key = cls(name, decoded[0], decoded[1:])
        if key.key_id.hex() != key_id:
            raise NoteError(f"the key {name} does not have the id {key_id}")
        return key


class Signature(msgspec.Struct, frozen=True):
    """One line below a note: who signed it, and with what."""

    name: str
    key_id: bytes
    signed: bytes

    @property
    def line(self) -> str:
        """The line, with its line feed."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.signed).decode()}\n"

    def is_of(self, key: Key) -> bool:
        """Whether it claims to be of this key."""
        return (self.name, self.key_id) == (key.name, key.key_id)


class Note(msgspec.Struct, frozen=True):
    """A signed text. ``text`` ends with a line feed."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(each.line for each in self.signatures)}"

    def with_signatures(self, more: Iterable[Signature]) -> "Note":
        """The note with further signatures; one that is there already is not doubled."""
        new = [each for each in more if each not in self.signatures]
        return Note(self.text, (*self.signatures, *new))

    def only_of(self, keys: Sequence[Key]) -> "Note":
        """The note with one signature of each of these keys, and none of others.

        A line that is repeated counts once. Raises :class:`NoteError` where lines of one key
        differ, of which at most one is true: an Ed25519 signature of a text is always the same.
        """
        own = [each for each in dict.fromkeys(self.signatures) if any(map(each.is_of, keys))]
        if len({(each.name, each.key_id) for each in own}) < len(own):
            raise NoteError("a key of the log has several signatures")
        return Note(self.text, tuple(own))

    def signed_by(
        self, keys: Sequence[Key], verify: Callable[[Key, bytes, Signature], bool]
    ) -> tuple[Key, ...]:
        """Which of ``keys`` signed the text.

        ``verify`` says whether a signature of the text is the key's. Raises :class:`NoteError`
        where a signature that claims to be of one of them is not.
        """
        text = self.text.encode()
        signers: list[Key] = []
        for key in keys:
            claimed = [each for each in self.signatures if each.is_of(key)]
            if not all(verify(key, text, each) for each in claimed):
                raise NoteError(f"a signature of {key.name} is false")
            if claimed:
                signers.append(key)
        return tuple(signers)


def read_note(told: str, *, most: int = MOST_SIGNATURES) -> Note:
    """Read a signed note of at most so many signatures. Raises :class:`NoteError`."""
    if _CONTROL.search(told):
        raise NoteError("a note has no control characters")
    text, blank, below = told.rpartition("\n\n")
    if not blank or not below.endswith("\n"):
        raise NoteError("a note has signatures, below an empty line")
    return Note(f"{text}\n", read_signatures(below, most=most))


def read_signatures(lines: str, *, most: int = MOST_SIGNATURES) -> tuple[Signature, ...]:
    """Read at most so many lines of signatures. Raises :class:`NoteError`."""
    parts = lines.removesuffix("\n").split("\n")
    if len(parts) > most:
        raise NoteError(f"a note has more than {most} signatures")
    return tuple(map(_signature, parts))


def _signature(line: str) -> Signature:
    found = _LINE.fullmatch(line)
    decoded = _base64(found["signature"]) if found else b""
    if found is None or len(decoded) < 5 or not _NAME.fullmatch(found["name"]):
        raise NoteError("a signature is — <name> <base64>")
    return Signature(found["name"], decoded[:4], decoded[4:])


def _base64(text: str) -> bytes:
    """What ``text`` encodes; nothing where it is no base64 of the standard form."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return decoded if base64.b64encode(decoded).decode() == text else b""
