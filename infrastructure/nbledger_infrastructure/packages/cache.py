"""Environments with packages beside the kernel's own, made once and kept for the next run.

An environment is a virtual environment whose path goes on where the worker's own packages lie:
it holds only what those lack, or what is asked for in another version. It is known by a key, the
digest of the interpreter, of what that has installed, and of exactly what is added. Each has a
lock file beside it: whoever makes or removes it holds the lock alone, whoever runs a kernel in it
shares it. It is there only once its marker is, which is written last.
"""

import asyncio
import fcntl
import os
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
import structlog

from nbledger_domain.vocabulary.units import MB
from nbledger_infrastructure.packages import libraries, uv
from nbledger_infrastructure.packages.environment_files import (
    base_path,
    copy_libraries,
    digest_of,
    discard,
    files,
    library_name,
    site_packages,
)
from nbledger_infrastructure.packages.fetching import fetched
from nbledger_infrastructure.packages.installed import Installed
from nbledger_infrastructure.packages.markers import (
    KEY,
    MARKER,
    Marker,
    Plan,
    noted,
    open_lock,
    try_lock,
)
from nbledger_infrastructure.packages.wanted import (
    Environment,
    EnvironmentFailedError,
    Held,
    Tell,
    Wanted,
)

log = structlog.get_logger(__name__)

_LOCK_LOOK_SECONDS: Final = 0.1


class EnvironmentCache:
    """The environments in a folder, which any number of workers on one machine may share.

    ``max_bytes`` bounds all of them and ``max_environment_bytes`` each one, 0 is no bound;
    ``build_seconds`` is the time that resolving and building may take.
    """

    def __init__(
        self,
        folder: Path,
        installed: Installed,
        *,
        max_bytes: int,
        max_environment_bytes: int,
        build_seconds: float,
    ) -> None:
        self._folder = folder
        self._installed = installed
        self._max_bytes = max_bytes
        self._max_environment_bytes = max_environment_bytes
        self._build_seconds = build_seconds

    async def open(self, wanted: Wanted, tell: Tell) -> Held | None:
        """An environment with what is wanted: found, or made now; ``None`` where nothing lacks.

        Raises :class:`EnvironmentFailedError`.
        """
        try:
            await asyncio.to_thread(self.prepare)
            request = await asyncio.to_thread(self._request_key, wanted)
            known = held = self._known(request)
            if held is None:
                async with (
                    asyncio.timeout(self._build_seconds),
                    fetched(wanted.wheels, self._fetching) as paths,
                ):
                    held = await self._make(wanted, paths, tell)
        except TimeoutError:
            raise EnvironmentFailedError(
                f"The environment was not there within {self._build_seconds:g} seconds."
            ) from None
        except uv.UvError as error:
            raise EnvironmentFailedError(f"The environment cannot be had: {error}") from error
        except OSError as error:
            raise EnvironmentFailedError(
                f"The environment cannot be made: {error.strerror or error}"
            ) from error
        if held is None:
            return None
        try:
            if known is None:
                await asyncio.to_thread(self._tidy, request, held.environment.key)
            await tell("ready", held.environment.key, held.environment.packages)
        except BaseException:
            held.release()
            raise
        return held

    def _tidy(self, request: str, key: str) -> None:
        """Note what has answered a request, and make room; the environment is there without."""
        try:
            self._note(request, key)
            self.prune()
        except OSError as error:
            log.warning("environments not tidied", reason=error.strerror)

    def _note(self, request: str, key: str) -> None:
        note = self._requests / f".{secrets.token_hex(8)}"
        try:
            note.write_text(key, "ascii")
            note.replace(self._requests / request)
        finally:
            note.unlink(missing_ok=True)

    @property
    def _requests(self) -> Path:
        """Which environment answered which request."""
        return self._folder / "requests"

    @property
    def _locks(self) -> Path:
        return self._folder / "locks"

    @property
    def folders(self) -> tuple[Path, ...]:
        """What nobody but the workers may write, in no environment that is in use either.

        Besides the environments that is what uv keeps: files of environments are links to it.
        """
        return self._folder, self._packages

    @property
    def _packages(self) -> Path:
        return uv.cache_folder(self._folder / "packages")

    @property
    def _fetching(self) -> Path:
        """Wheels from elsewhere, as long as they are installed."""
        return self._folder / "fetching"

    @property
    def _environments(self) -> Path:
        return self._folder / "environments"

    def prepare(self) -> None:
        """Make its folders. Raises :class:`EnvironmentFailedError`."""
        try:
            for folder in (
                self._requests,
                self._locks,
                self._environments,
                self._packages,
                self._fetching,
            ):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFailedError(
                f"The folder of environments cannot be used: {error.strerror}"
            ) from error

    def _request_key(self, wanted: Wanted) -> str:
        return digest_of(
            self._installed.fingerprint,
            *sorted(wanted.requirements),
            "",
            *sorted(libraries.digest(library) for library in wanted.libraries),
            "",
            *sorted(f"{wheel.file_name} {wheel.digest}" for wheel in wanted.wheels),
        )

    def _known(self, request: str) -> Held | None:
        """The environment that has answered the same request before, if it is still there."""
        key = noted(self._requests / request)
        lock = None if key is None else self._try_lock(key, fcntl.LOCK_SH)
        return None if key is None or lock is None else self._hold(key, lock)

    def _hold(self, key: str, lock: int) -> Held | None:
        """What the shared lock is on, used now; lets go of the lock where nothing is there."""
        folder = self._environments / key
        marker = folder / MARKER
        try:
            told = msgspec.json.decode(marker.read_bytes(), type=Marker)
            os.utime(marker)
        except (OSError, msgspec.MsgspecError):
            os.close(lock)
            return None
        return Held(Environment(key, folder, told.packages), lock)

    async def _make(self, wanted: Wanted, fetched: Sequence[Path], tell: Tell) -> Held | None:
        await tell("resolving", None, ())
        plan = await self._plan(wanted, fetched)
        if plan is None:
            return None
        waited = False
        while True:
            lock = self._try_lock(plan.key, fcntl.LOCK_EX)
            if lock is None:
                # Somebody makes it, removes it, or runs a kernel in it.
                shared = self._try_lock(plan.key, fcntl.LOCK_SH)
                if shared is not None and (held := self._hold(plan.key, shared)) is not None:
                    return held
                if not waited:
                    waited = True
                    await tell("waiting", plan.key, plan.shown)
                # The system tells nobody that a lock has become free but who sleeps in it.
                await asyncio.sleep(_LOCK_LOOK_SECONDS)
                continue
            try:
                if not (self._environments / plan.key / MARKER).exists():
                    await tell("building", plan.key, plan.shown)
                    await self._build(plan, lock)
                # For a moment the lock is nobody's, and another may get it.
                got = try_lock(lock, fcntl.LOCK_SH)
            except BaseException:
                os.close(lock)
                raise
            if not got:
                os.close(lock)
            elif (held := self._hold(plan.key, lock)) is not None:
                return held

    async def _plan(self, wanted: Wanted, fetched: Sequence[Path]) -> Plan | None:
        """What has to be added for what is wanted; ``None`` where nothing has."""
        from_folder = [path for path in wanted.libraries if path.suffix == ".whl"]
        wheels = {library_name(path): str(path) for path in (*from_folder, *fetched)}
        packages: list[str] = []
        if wanted.requirements or wheels:
            asked = [
                *wanted.requirements,
                *wheels.values(),
                *self._installed.kernel_packages(),
            ]
            packages = await uv.resolve(
                sys.executable, asked, cache=self._packages, cwd=self._folder
            )
        if not packages and not wanted.libraries and not fetched:
            return None
        # What a library is, its content tells, and not its version.
        sources = [
            f"{path.name} {await asyncio.to_thread(libraries.digest, path)}"
            for path in sorted([*wanted.libraries, *fetched], key=lambda path: path.name)
        ]
        digest = digest_of(self._installed.fingerprint, *packages, "", *sources)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        copied = [path for path in wanted.libraries if path.suffix != ".whl"]
        return Plan(
            key=f"py{version}-{digest[:20]}",
            installed=[
                *(each for each in packages if each.partition("==")[0] not in wheels),
                *map(str, from_folder),
            ],
            fetched=[*map(str, fetched)],
            copied=copied,
            shown=[*packages, *(path.stem for path in copied)],
            uploads=[wheel.library_id for wheel in wanted.wheels],
        )

    async def _build(self, plan: Plan, lock: int) -> None:
        """Make it whole, or leave nothing of it."""
        folder = self._environments / plan.key
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        try:
            await uv.make_environment(
                folder, base=sys.executable, cache=self._packages, keep=(lock,)
            )
            target = site_packages(folder)
            (target / "_nbledger_base.pth").write_text(base_path(), "utf-8")
            if plan.installed:
                await uv.install(
                    folder / "bin" / "python",
                    plan.installed,
                    cache=self._packages,
                    cwd=folder,
                    keep=(lock,),
                )
            if plan.fetched:
                # uv would keep them for ever, whoever may delete them where they come from.
                await uv.install(
                    folder / "bin" / "python",
                    plan.fetched,
                    cache=None,
                    cwd=folder,
                    keep=(lock,),
                )
            await asyncio.to_thread(copy_libraries, plan.copied, target)
            await uv.compile_modules(target, keep=(lock,))
            size = await asyncio.to_thread(self._measure, folder)
            content = msgspec.json.encode(Marker(plan.shown, size, plan.uploads))
            (folder / f"{MARKER}.new").write_bytes(content)
            (folder / f"{MARKER}.new").replace(folder / MARKER)
        except BaseException:
            await discard(folder, lock)
            raise
        log.info("environment built", environment=plan.key, packages=len(plan.shown), bytes=size)

    def _measure(self, folder: Path) -> int:
        """Its size in bytes; raises :class:`EnvironmentFailedError` where that is too much."""
        size = sum(path.lstat().st_size for path in files(folder))
        if 0 < self._max_environment_bytes < size:
            raise EnvironmentFailedError(
                f"The environment takes {size // MB} MB, and may take "
                f"{self._max_environment_bytes // MB} MB."
            )
        return size

    def prune(self) -> None:
        """Remove what nobody finished, then the longest unused, until all fits the bound."""
        kept: list[tuple[float, int, str]] = []
        for folder in self._environments.iterdir():
            if not KEY.fullmatch(folder.name):
                continue
            marker = folder / MARKER
            try:
                size = msgspec.json.decode(marker.read_bytes(), type=Marker).size
                kept.append((marker.stat().st_mtime, size, folder.name))
            except (OSError, msgspec.MsgspecError):
                self._remove(folder.name, only_unfinished=True)
        total = sum(size for _, size, _ in kept)
        for _, size, key in sorted(kept):
            if not self._max_bytes or total <= self._max_bytes:
                break
            if self._remove(key):
                total -= size
                log.info("environment removed", environment=key, bytes=size)
        self._prune_beside()

    def uploads(self) -> dict[str, list[UUID] | None]:
        """By key, the uploaded libraries in each environment that has any, or does not tell."""
        found: dict[str, list[UUID] | None] = {}
        with suppress(FileNotFoundError):
            for folder in self._environments.iterdir():
                try:
                    marker = msgspec.json.decode((folder / MARKER).read_bytes(), type=Marker)
                except (OSError, msgspec.MsgspecError):
                    continue  # unfinished, or gone
                if marker.uploads != []:
                    found[folder.name] = marker.uploads
        return found

    def forget(self, key: str) -> bool:
        """Remove an environment, and the requests that it has answered; not while it is in use."""
        if not self._remove(key):
            return False
        self._prune_beside()
        log.info("environment of a deleted library removed", environment=key)
        return True

    def _prune_beside(self) -> None:
        """Remove what a killed worker left, which fetches no longer, and stale answers."""
        dead = time.time() - 2 * self._build_seconds
        for folder in self._fetching.iterdir():
            if folder.lstat().st_mtime < dead:
                shutil.rmtree(folder, ignore_errors=True)
        there = {folder.name for folder in self._environments.iterdir()}
        for request in self._requests.iterdir():
            # Those that begin with a dot are being written.
            if not request.name.startswith(".") and noted(request) not in there:
                request.unlink(missing_ok=True)

    def _remove(self, key: str, *, only_unfinished: bool = False) -> bool:
        """Remove it unless somebody uses it; whether it is gone."""
        lock = self._try_lock(key, fcntl.LOCK_EX)
        if lock is None:
            return False
        try:
            folder = self._environments / key
            if only_unfinished and (folder / MARKER).exists():
                return False
            (folder / MARKER).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            # The key is a digest of what was in it, and would confirm a guess.
            (self._locks / key).unlink(missing_ok=True)
            return True
        finally:
            os.close(lock)

    def _try_lock(self, key: str, how: int) -> int | None:
        return open_lock(self._locks / key, how)
