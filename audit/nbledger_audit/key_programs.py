"""Keys that this process never has: a program signs with them, in a KMS, an HSM, or anywhere.

It is called with one word more than the setting has: ``public`` has it print the public key, and
``sign`` has it sign what it reads, with Ed25519.
"""

import asyncio
import base64
import binascii
import os
from collections.abc import Sequence
from typing import Final, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from nbledger_audit.keys import KeyFileError, SigningError
from nbledger_infrastructure.programs import OutputTooLargeError, Program

ANSWER_SECONDS: Final = 5.0
"""Seconds that the program may take. A sealer that is silent for longer may lose the lead."""

_MOST_BYTES: Final = 16 * 1024
_SIGNATURE_BYTES: Final = 64
_PUBLIC_BYTES: Final = 32


class ProgramKey:
    """The key of a program."""

    def __init__(self, command: Sequence[str], public: bytes) -> None:
        self._command = command
        self.public = public

    @classmethod
    async def open(cls, command: Sequence[str]) -> Self:
        """Ask a program for its public key. Raises :class:`KeyFileError`."""
        try:
            return cls(command, _public(await _ask(command, "public")))
        except SigningError as error:
            raise KeyFileError(str(error)) from error
        except ValueError as error:
            raise KeyFileError(f"{command[0]} public: prints no Ed25519 key: {error}") from error

    async def raw_signature(self, message: bytes) -> bytes:
        """As of ``SigningKey``."""
        answer = await _ask(self._command, "sign", message)
        if len(answer) == _SIGNATURE_BYTES:
            return answer
        try:
            return base64.b64decode(answer.strip(), validate=True)
        except binascii.Error:
            raise SigningError(
                f"{self._command[0]} prints no signature: 64 bytes, or base64 of them"
            ) from None


async def _ask(command: Sequence[str], word: str, content: bytes = b"") -> bytes:
    """What the program prints. Raises :class:`SigningError`."""
    # It may need the credentials of a KMS, and none of the service's.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("NBLEDGER_")
    }
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            await Program.start([*command, word], env=environment, stdin=True) as program,
        ):
            ended = await program.finish(content, most_bytes=_MOST_BYTES)
    except TimeoutError:
        raise SigningError(
            f"{command[0]} {word}: no answer in {ANSWER_SECONDS:g} seconds"
        ) from None
    except (OSError, OutputTooLargeError) as error:
        raise SigningError(f"{command[0]} {word}: {error}") from error
    if ended.status != 0:
        raise SigningError(f"{command[0]} {word}: {ended.last_line}")
    return ended.output


def _public(printed: bytes) -> bytes:
    """A public key in PEM, or in base64: SubjectPublicKeyInfo in DER, or its 32 bytes.

    Raises ``ValueError``.
    """
    if printed.lstrip().startswith(b"-----BEGIN"):
        key = serialization.load_pem_public_key(printed)
    else:
        decoded = base64.b64decode(printed.strip(), validate=True)
        if len(decoded) == _PUBLIC_BYTES:
            return decoded
        key = serialization.load_der_public_key(decoded)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("one of another kind")  # noqa: TRY004 (a value that is read)
    return key.public_bytes_raw()
