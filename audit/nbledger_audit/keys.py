"""Ed25519 keys of logs and witnesses: in a file, or a program's; never in the database."""

import os
import stat
from pathlib import Path
from typing import Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from nbledger_domain.transparency.checkpoints import cosigned, timestamp_of
from nbledger_domain.transparency.notes import COSIGNATURE, ED25519, Key, Signature
from nbledger_infrastructure.flushing import flush_file


class KeyFileError(Exception):
    """A file that holds no key to sign with, or holds it where others can read it."""


class SigningError(Exception):
    """A key that cannot be used at the moment; the text says why."""


class SigningKey(Protocol):
    """A key that signs, wherever it is."""

    @property
    def public(self) -> bytes:
        """Its public half, 32 bytes."""
        ...

    async def raw_signature(self, message: bytes) -> bytes:
        """The Ed25519 signature of a message. Raises :class:`SigningError`."""
        ...


class Signer:
    """Signs texts of notes with one key, under any name."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key from a file (PEM, PKCS #8). Raises :class:`KeyFileError`."""
        try:
            told = path.read_bytes()
            mode = path.stat().st_mode
        except OSError as error:
            raise KeyFileError(f"{path}: {error.strerror}") from error
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(f"{path}: others than its owner can get at it: chmod 600")
        try:
            private = serialization.load_pem_private_key(told, password=None)
        except (ValueError, TypeError) as error:
            raise KeyFileError(f"{path}: no private key in PEM without a password") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyFileError(f"{path}: no Ed25519 key")
        return cls(private)

    @classmethod
    def generate(cls, path: Path) -> Self:
        """Make a key and write it to a new file, for its owner alone.

        Raises ``FileExistsError`` where there is one: no key is ever overwritten.
        """
        private = Ed25519PrivateKey.generate()
        told = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(told)
            flush_file(file)
        return cls(private)

    def key(self, name: str, kind: int = ED25519) -> Key:
        """The public key under a name."""
        return Key(name, kind, self.public)

    async def raw_signature(self, message: bytes) -> bytes:
        """As of :class:`SigningKey`."""
        return self._private.sign(message)

    def sign(self, name: str, text: str) -> Signature:
        """Sign a text as the log ``name``."""
        return Signature(name, self.key(name).key_id, self._private.sign(text.encode()))

    def cosign(self, name: str, text: str, timestamp: int) -> Signature:
        """Sign the text of a checkpoint as the witness ``name``, in seconds since 1970."""
        signed = self._private.sign(cosigned(text.encode(), timestamp))
        key_id = self.key(name, COSIGNATURE).key_id
        return Signature(name, key_id, timestamp.to_bytes(8, "big") + signed)


async def sign(key: SigningKey, name: str, text: str) -> Signature:
    """Sign a text as the log ``name``. Raises :class:`SigningError`, also for a false signature."""
    of = Key(name, ED25519, key.public)
    signature = Signature(name, of.key_id, await key.raw_signature(text.encode()))
    if not verify(of, text.encode(), signature):
        raise SigningError("the signature is not of the public key")
    return signature


def verify(key: Key, text: bytes, signature: Signature) -> bool:
    """Whether a signature of a text is the key's; never of a key of another kind."""
    signed = signature.signed
    if key.kind == COSIGNATURE:
        timestamp = timestamp_of(signature)
        if timestamp is None:
            return False
        text, signed = cosigned(text, timestamp), signed[8:]
    elif key.kind != ED25519:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signed, text)
    except (InvalidSignature, ValueError):
        return False
    return True
