"""What the kernel of a run needs beside its own packages: found out, and provided."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
import structlog
from packaging.requirements import Requirement

from nbledger_application.recording import Recorder
from nbledger_domain import notebook
from nbledger_domain.execution import EnvironmentStage
from nbledger_domain.vocabulary.units import MB
from nbledger_infrastructure import clock, settings
from nbledger_infrastructure.artifacts.store import ArtifactMissingError, ArtifactStore
from nbledger_infrastructure.packages import (
    Environment,
    EnvironmentCache,
    EnvironmentFailedError,
    Held,
    Installed,
    KeptWheel,
    Libraries,
    Tell,
    Wanted,
    parse_requirement,
    uploads,
)
from nbledger_infrastructure.packages.libraries import can_import, comes_with_service
from nbledger_infrastructure.packages.uploads import Upload
from nbledger_infrastructure.postgres.event_store import EventStore, StoreUnavailableError, Stream
from nbledger_workers.storing.patience import Patience
from nbledger_workers.translation.package_lists import PackageLists

log = structlog.get_logger(__name__)


FORGET_SECONDS: Final = 5.0
"""Seconds between looks for environments whose libraries were deleted."""


class Needs(msgspec.Struct, frozen=True):
    """What a notebook asks for and its kernel lacks, and what is to be said of it."""

    packages: list[str] = []
    libraries: list[Path] = []
    uploads: list[Upload] = []
    warnings: list[str] = []

    @property
    def unmet(self) -> bool:
        """Whether something has to be provided."""
        return bool(self.packages or self.libraries or self.uploads)


class Provider:
    """Provides the kernels of one worker, while it is :meth:`running`."""

    def __init__(
        self,
        config: settings.Environments,
        store: EventStore,
        artifacts: ArtifactStore,
        patience: Patience,
    ) -> None:
        self._config = config
        self._store = store
        self._artifacts = artifacts
        self._patience = patience
        self._libraries = Libraries(config.library_folder)
        self._installed: Installed | None = None
        self._cache: EnvironmentCache | None = None
        self.package_lists = PackageLists()
        """Of its kernels, as they are kept."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be ready to provide, and forget what is deleted, for the block."""
        await self.start()
        forgetting = asyncio.create_task(self._forget_deleted(), name="forgetting libraries")
        try:
            yield
        finally:
            forgetting.cancel()
            await asyncio.gather(forgetting, return_exceptions=True)

    async def start(self) -> None:
        """Look at what is installed, and make the folders: kernels cannot be kept out of others."""
        config = self._config
        self._installed = await asyncio.to_thread(Installed)
        self._cache = EnvironmentCache(
            _folder(config.folder),
            self._installed,
            max_bytes=config.max_mb * MB,
            max_environment_bytes=config.max_environment_mb * MB,
            build_seconds=config.build_seconds,
        )
        if config.provisioning:
            try:
                await asyncio.to_thread(self._cache.prepare)
            except EnvironmentFailedError as error:
                # The runs that need one will say so.
                log.warning("no environments can be provided", reason=str(error))

    async def _forget_deleted(self) -> None:
        """Remove environments with uploaded libraries that were deleted, again and again.

        One that a kernel runs in goes after that.
        """
        assert self._cache is not None  # noqa: S101 - since the start
        while True:
            try:
                await forget_deleted(self._cache, self._store)
            except StoreUnavailableError as error:
                log.warning("deleted libraries not looked for", reason=str(error))
            except Exception:
                # A folder that cannot be read now must not end the looking.
                log.exception("deleted libraries not forgotten")
            await asyncio.sleep(FORGET_SECONDS)

    @property
    def folders(self) -> tuple[Path, ...]:
        """What is to be hidden from kernels, but for the environment that one is in."""
        return () if self._cache is None else self._cache.folders

    def packages(self, environment: Environment | None) -> bytes:
        """The list of all that a Python kernel in the environment can import."""
        assert self._installed is not None  # noqa: S101 - since the start
        return self._installed.listed(environment.packages if environment is not None else ())

    async def needs(
        self, environment: notebook.Environment, language: str, *, tenant_id: UUID, project_id: UUID
    ) -> Needs:
        """What has to be provided; libraries of the project come before those of the folder.

        Raises :class:`EnvironmentFailedError`, and :class:`StoreUnavailableError`.
        """
        if language != "python":
            asked = environment.packages or environment.custom_libraries
            told = "packages: they are provided for Python notebooks only"
            return Needs(warnings=[told] if asked else [])
        packages = [str(each) for each in self._lacking(environment.packages)]
        names = environment.custom_libraries
        uploaded = await uploads.newest(self._store, tenant_id, project_id, names)
        found, warnings = self._in_folder([name for name in names if name not in uploaded])
        # One library may be named in several ways.
        libraries = list(dict.fromkeys(found))
        wheels = list({each.library_id: each for each in uploaded.values()}.values())
        if self._config.provisioning:
            return Needs(packages, libraries, wheels, warnings)
        warnings += [
            f"packages: the kernel does not have {each!r}, and nothing is provided here"
            for each in packages
        ]
        warnings += [
            f"customLibraries: {name!r} is not installed, and nothing is provided here"
            for name in names
            if name in uploaded or self._libraries.find(name) is not None
        ]
        return Needs(warnings=warnings)

    def _in_folder(self, names: Sequence[str]) -> tuple[list[Path], list[str]]:
        """Those of the operator's folder, and warnings of those that are nowhere."""
        found: list[Path] = []
        warnings: list[str] = []
        for name in names:
            if (path := self._libraries.find(name)) is not None:
                found.append(path)
            elif not self._libraries.is_known(name) and not can_import(name):
                warnings.append(f"customLibraries: no library {name!r} is known here")
        return found, warnings

    async def provide(self, needs: Needs, tell: Tell) -> Held | None:
        """An environment for them; ``None`` where the kernel's own does.

        Raises :class:`EnvironmentFailedError`.
        """
        assert self._cache is not None  # noqa: S101 - since the start
        wheels = [
            KeptWheel(
                *(each.library_id, each.file_name, each.content.digest),
                partial(self._fetch, each),
            )
            for each in needs.uploads
        ]
        wanted = Wanted(tuple(needs.packages), tuple(needs.libraries), tuple(wheels))
        return await self._cache.open(wanted, tell)

    async def _fetch(self, upload: Upload, path: Path) -> None:
        digest = upload.content.digest
        try:
            await self._patience.wait_for(
                partial(self._artifacts.get_file, upload.scope, digest, path)
            )
        except ArtifactMissingError:
            raise EnvironmentFailedError(
                f"The library {upload.name} {upload.version} is not kept any more."
            ) from None

    def _lacking(self, packages: Sequence[str]) -> list[Requirement]:
        installed = self._installed
        if not packages or installed is None:
            return []
        asked: list[Requirement] = []
        for text in packages:
            try:
                asked.append(parse_requirement(text))
            except ValueError as error:
                raise EnvironmentFailedError(f"The package {text!r} {error}.") from None
        lacking = installed.lacks(asked)
        for each in lacking:
            if comes_with_service(each.name):
                raise EnvironmentFailedError(
                    f"{each.name} comes with the service, in version "
                    f"{installed.version(each.name)}; the notebook asks for {str(each)!r}."
                )
        return lacking


async def forget_deleted(cache: EnvironmentCache, store: EventStore) -> None:
    """Remove the environments that hold an uploaded library which was deleted.

    What does not tell goes, too: it is made anew when it is asked for. Raises
    :class:`StoreUnavailableError`, and OSError.
    """
    held = await asyncio.to_thread(cache.uploads)
    ids = {each for uploads_in in held.values() for each in uploads_in or ()}
    gone = await uploads.deleted(store, ids) if ids else set()
    for key, uploads_in in held.items():
        if uploads_in is None or not gone.isdisjoint(uploads_in):
            await asyncio.to_thread(cache.forget, key)


class Provision:
    """The environment of one run: :meth:`run` it, and :meth:`release` it behind the kernel."""

    def __init__(
        self,
        provider: Provider,
        recorder: Recorder,
        epoch: int,
        stream: Stream,
        patience: Patience,
    ) -> None:
        self._patience = patience
        self._provider = provider
        self._recorder = recorder
        self._epoch = epoch
        self._stream = stream
        self._held: Held | None = None
        self._providing: asyncio.Task[None] | None = None
        self._cancelled = False

    @property
    def environment(self) -> Environment | None:
        """What the kernel is to be started in; ``None`` is the kernels' own."""
        return None if self._held is None else self._held.environment

    async def run(self, asked: notebook.Environment, language: str, *, seconds: float) -> None:
        """Provide what is asked for, recording how far it is; nothing when it is cancelled.

        Raises :class:`EnvironmentFailedError`, and TimeoutError after so many seconds.
        """
        needs = await self._patience.wait_for(
            partial(
                self._provider.needs,
                asked,
                language,
                tenant_id=self._stream.tenant_id,
                project_id=self._stream.project_id,
            )
        )
        for warning in needs.warnings:
            await self._warn(warning)
        if not needs.unmet or self._cancelled:
            return
        self._providing = asyncio.create_task(self._provide(needs))
        try:
            done, _ = await asyncio.wait({self._providing}, timeout=seconds)
        finally:
            self._providing.cancel()
            await asyncio.gather(self._providing, return_exceptions=True)
        if not done:
            raise TimeoutError
        if not self._providing.cancelled():
            self._providing.result()

    def cancel(self) -> None:
        """Provide nothing; what has been begun is undone."""
        self._cancelled = True
        if self._providing is not None:
            self._providing.cancel()

    def release(self) -> None:
        """Nothing runs in it any more."""
        if self._held is not None:
            self._held.release()
            self._held = None

    async def _provide(self, needs: Needs) -> None:
        self._held = await self._provider.provide(needs, self._tell)

    async def _warn(self, warning: str) -> None:
        at = clock.now()
        await self._recorder.record(lambda execution: execution.warn(self._epoch, warning, at=at))

    async def _tell(
        self, stage: EnvironmentStage, key: str | None, packages: Sequence[str]
    ) -> None:
        at = clock.now()
        await self._recorder.record(
            lambda execution: execution.prepare_environment(
                self._epoch, stage, environment=key, packages=packages, at=at
            )
        )


def _folder(configured: str) -> Path:
    if configured:
        return Path(configured).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "nbledger"
