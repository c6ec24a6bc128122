"""Trust policies, as C2SP tlog-policy defines them: whose signatures make a checkpoint valid.

A policy lists keys of logs and of witnesses, and says by its quorum which witnesses are enough. The
format has no line for the maximum age of a checkpoint: a comment has it, which other readers pass
over, ``# maximum-age <seconds>``.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from nbledger_domain.transparency.checkpoints import (
    LogCheckpoint,
    read_checkpoint,
    timestamp_of,
)
from nbledger_domain.transparency.notes import (
    COSIGNATURE,
    ED25519,
    ML_DSA_44,
    Key,
    Note,
    NoteError,
    Signature,
)

NONE: Final = "none"
"""The quorum that needs no witness."""

Verify = Callable[[Key, bytes, Signature], bool]
"""Whether a signature of a text is the key's."""

_AGE: Final = re.compile(r"#[ \t]*maximum-age[ \t]+([1-9][0-9]{0,11})")
_BLANKS: Final = re.compile(r"[ \t]+")
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_COUNT: Final = re.compile(r"[1-9][0-9]{0,5}")


class PolicyError(ValueError):
    """A text that is no policy."""


class UntrustedCheckpointError(Exception):
    """A checkpoint that a policy does not accept."""


class KnownLog(msgspec.Struct, frozen=True):
    """A log by its key, whose name is the log's origin; ``url`` may be empty."""

    key: Key
    url: str = ""


class KnownWitness(msgspec.Struct, frozen=True):
    """A witness by its key; ``name`` names it in the policy alone, ``url`` may be empty."""

    name: str
    key: Key
    url: str = ""


class Group(msgspec.Struct, frozen=True):
    """Witnesses a checkpoint where at least ``needed`` of its members do."""

    name: str
    needed: int
    members: tuple[str, ...]


class Verdict(msgspec.Struct, frozen=True):
    """What a policy says of a checkpoint that it accepts.

    ``key`` is the log's that signed. ``times`` are those of the cosignatures, by the names of
    witnesses, in seconds since 1970. ``witnessed_at`` is the checkpoint's time: the latest one for
    which cosignatures of then or later are a quorum; with the quorum ``none`` that of the newest
    cosignature. None where no known witness has cosigned.
    """

    checkpoint: LogCheckpoint
    key: Key
    times: Mapping[str, int]
    witnessed_at: int | None


class Policy(msgspec.Struct, frozen=True):
    """Which logs and witnesses are known, and which of the witnesses must have cosigned.

    ``quorum`` names a witness or a group, or is ``none``. ``maximum_age`` is in seconds.
    """

    logs: tuple[KnownLog, ...] = ()
    witnesses: tuple[KnownWitness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NONE
    maximum_age: int | None = None

    def __str__(self) -> str:
        told = ["# Trust policy of a transparency log: https://c2sp.org/tlog-policy"]
        if self.maximum_age is not None:
            told.append(f"# maximum-age {self.maximum_age}")
        told += (f"log {log.key.encoded} {log.url}".rstrip() for log in self.logs)
        told += (
            f"witness {each.name} {each.key.encoded} {each.url}".rstrip() for each in self.witnesses
        )
        told += (
            f"group {each.name} {each.needed} {' '.join(each.members)}" for each in self.groups
        )
        told.append(f"quorum {self.quorum}")
        return "\n".join(told) + "\n"

    def is_witnessed(self, cosigners: Collection[str]) -> bool:
        """Whether the witnesses of these names are a quorum."""
        if self.quorum == NONE:
            return True
        met = {each.name for each in self.witnesses if each.name in cosigners}
        for group in self.groups:
            if len(met.intersection(group.members)) >= group.needed:
                met.add(group.name)
        return self.quorum in met

    def witnessed_at(self, times: Mapping[str, int]) -> int | None:
        """The latest time for which cosignatures of then or later are a quorum; None for none.

        ``times`` are those of cosignatures by the names of witnesses.
        """
        for at in sorted(set(times.values()), reverse=True):
            if self.is_witnessed([name for name, time in times.items() if time >= at]):
                return at
        return None

    def cosigned_at(self, note: Note, verify: Verify) -> dict[str, int]:
        """When the known witnesses have cosigned a checkpoint last, by their names.

        Raises :class:`NoteError` where a signature claims to be of one of them and is not.
        """
        times: dict[str, int] = {}
        for witness in self.witnesses:
            if witness.key.kind == COSIGNATURE:
                for signature in _signatures(note, witness.key, verify):
                    time = timestamp_of(signature) or 0
                    times[witness.name] = max(time, times.get(witness.name, 0))
        return times

    def judge(self, note: Note, verify: Verify) -> Verdict:
        """What the policy says of a checkpoint.

        Its age is left to the caller, who knows the time that counts. Raises
        :class:`UntrustedCheckpointError` where no known log signed it or the quorum is not there,
        and :class:`NoteError` for false signatures and what is no checkpoint.
        """
        checkpoint = read_checkpoint(note)
        key = self._signer(checkpoint.origin, note, verify)
        times = self.cosigned_at(note, verify)
        if not self.is_witnessed(times):
            raise UntrustedCheckpointError(
                f"the quorum {self.quorum} has not cosigned the checkpoint, but "
                f"{', '.join(times) or 'nobody'}"
            )
        return Verdict(checkpoint, key, times, self.witnessed_at(times))

    def _signer(self, origin: str, note: Note, verify: Verify) -> Key:
        """The key of the log that signed. Raises as :meth:`judge` does."""
        for log in self.logs:
            if log.key.name == origin and log.key.kind == ED25519:
                for _ in _signatures(note, log.key, verify):
                    return log.key
        raise UntrustedCheckpointError(f"no known log signed the checkpoint of {origin}")


def read_policy(told: str) -> Policy:
    """Read a policy. Raises :class:`PolicyError`, which names the line.

    The format is one of octets: bytes that are no UTF-8 are to be given as surrogates.
    """
    if _FORBIDDEN.search(told):
        raise PolicyError("a policy has no control characters but tab and newline")
    reading = _Reading()
    for number, line in enumerate(told.split("\n"), 1):
        try:
            reading.take(line.strip(" \t"))
        except ValueError as error:  # a PolicyError, a NoteError, or a name that is no UTF-8
            raise PolicyError(f"line {number}: {error}") from error
    return reading.policy()


class _Reading:
    """A policy as far as its lines were read."""

    def __init__(self) -> None:
        self._logs: list[KnownLog] = []
        self._witnesses: list[KnownWitness] = []
        self._groups: list[Group] = []
        self._names: set[str] = {NONE}
        self._members: set[str] = set()
        self._quorum: str | None = None
        self._age: int | None = None

    def take(self, line: str) -> None:
        """Take a line without the blanks around it. Raises ``PolicyError`` and ``NoteError``."""
        if line.startswith("#"):
            self._take_comment(line)
        elif line:
            kind, *items = _BLANKS.split(line)
            takers = {
                "log": self._take_log,
                "witness": self._take_witness,
                "group": self._take_group,
                "quorum": self._take_quorum,
            }
            if kind not in takers:
                raise PolicyError(f"{kind!r} is none of {', '.join(takers)}")
            takers[kind](items)

    def policy(self) -> Policy:
        """The policy, once all lines are read. Raises ``PolicyError``."""
        if self._quorum is None:
            raise PolicyError("there is no quorum line")
        return Policy(
            tuple(self._logs),
            tuple(self._witnesses),
            tuple(self._groups),
            self._quorum,
            self._age,
        )

    def _take_comment(self, line: str) -> None:
        found = _AGE.fullmatch(line)
        if found is not None:
            if self._age is not None:
                raise PolicyError("there is a second maximum age")
            self._age = int(found[1])

    def _take_log(self, items: list[str]) -> None:
        if not 1 <= len(items) <= 2:
            raise PolicyError("must be: log <vkey> [<url>]")
        log = KnownLog(_key(items[0], ED25519, "a log"), *items[1:])
        _refuse_twice(log.key, (each.key for each in self._logs))
        self._logs.append(log)

    def _take_witness(self, items: list[str]) -> None:
        if not 2 <= len(items) <= 3:
            raise PolicyError("must be: witness <name> <vkey> [<url>]")
        name, key, *url = items
        witness = KnownWitness(name, _key(key, COSIGNATURE, "a witness"), *url)
        _refuse_twice(witness.key, (each.key for each in self._witnesses))
        self._define(name)
        self._witnesses.append(witness)

    def _take_group(self, items: list[str]) -> None:
        if len(items) < 3:
            raise PolicyError("must be: group <name> all|any|<number> <member>…")
        name, told, *members = items
        group = Group(name, _needed(told, len(members)), tuple(members))
        for member, times in Counter(members).items():
            if member == NONE or member not in self._names:
                raise PolicyError(f"the member {member} is not defined above")
            if times > 1 or member in self._members:
                raise PolicyError(f"{member} is a member already")
        self._define(name)
        self._members.update(members)
        self._groups.append(group)

    def _take_quorum(self, items: list[str]) -> None:
        if len(items) != 1:
            raise PolicyError("must be: quorum <name>")
        if self._quorum is not None:
            raise PolicyError("there is a second quorum")
        if items[0] not in self._names:
            raise PolicyError(f"{items[0]} is not defined above")
        self._quorum = items[0]

    def _define(self, name: str) -> None:
        if name in self._names:
            raise PolicyError(f"the name {name} is taken")
        self._names.add(name)


def _needed(told: str, members: int) -> int:
    """How many members a group needs. Raises :class:`PolicyError`."""
    words = {"any": 1, "all": members}
    if told in words:
        return words[told]
    if not _COUNT.fullmatch(told) or int(told) > members:
        raise PolicyError(f"{told!r} is neither all, any nor a number from 1 to {members}")
    return int(told)


_LENGTHS: Final = {ED25519: 32, COSIGNATURE: 32, ML_DSA_44: 1312}


def _key(encoded: str, kind: int, whose: str) -> Key:
    key = Key.read(encoded)
    if key.kind not in {kind, ML_DSA_44}:
        raise PolicyError(f"the key {key.name} is of type {key.kind}, and not that of {whose}")
    if len(key.public) != _LENGTHS[key.kind]:
        raise PolicyError(f"the key {key.name} has {len(key.public)} bytes")
    return key


def _refuse_twice(key: Key, known: Iterable[Key]) -> None:
    if any(each.public == key.public for each in known):
        raise PolicyError(f"the public key of {key.name} is there already")


def _signatures(note: Note, key: Key, verify: Verify) -> Iterator[Signature]:
    """The signatures of a note that are the key's. Raises ``NoteError`` where one is false."""
    text = note.text.encode()
    for signature in note.signatures:
        if signature.is_of(key):
            if not verify(key, text, signature):
                raise NoteError(f"a signature of {key.name} is false")
            yield signature
