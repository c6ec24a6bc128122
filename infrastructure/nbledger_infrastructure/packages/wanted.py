"""What a kernel shall have beside its own packages, and an environment that has it."""

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec

Stage = Literal["waiting", "resolving", "building", "ready"]

Tell = Callable[[Stage, str | None, Sequence[str]], Awaitable[None]]
"""Called with how far an environment is: stage, key and packages, as far as they are known."""


class EnvironmentFailedError(Exception):
    """What is asked for cannot be provided; says why, in words for whoever asked."""


class KeptWheel(msgspec.Struct, frozen=True):
    """A wheel that is kept elsewhere; ``fetch`` writes it to a new file, and may raise OSError."""

    library_id: UUID
    file_name: str
    digest: str
    fetch: Callable[[Path], Awaitable[None]]


class Wanted(msgspec.Struct, frozen=True):
    """What a kernel shall have beside its own.

    That is requirements, libraries from a folder, and wheels that are fetched if need be.
    """

    requirements: tuple[str, ...]
    libraries: tuple[Path, ...] = ()
    wheels: tuple[KeptWheel, ...] = ()


class Environment(msgspec.Struct, frozen=True):
    """An environment that is there."""

    key: str
    folder: Path
    packages: list[str]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


class Held:
    """An environment that is not removed until it is released, or this process ends."""

    def __init__(self, environment: Environment, lock: int) -> None:
        self.environment = environment
        self._lock: int | None = lock

    def release(self) -> None:
        """Let go of it; a second call does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
