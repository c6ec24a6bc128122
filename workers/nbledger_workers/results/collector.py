"""Collecting what a notebook leaves: results that it handed back, and files of `outputs/`."""

from __future__ import annotations

import mimetypes
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import structlog

from nbledger_application.claims import Claim
from nbledger_domain.execution import Execution, Representation
from nbledger_infrastructure import clock, settings
from nbledger_infrastructure.artifacts.store import ArtifactStoreUnavailableError, Scope
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_workers.kernel import run_folder
from nbledger_workers.kernel.processes.environment import outputs_folder, results_folder
from nbledger_workers.kernel.protocol import Described
from nbledger_workers.kernel.run_folder import Copied, Mark, RefusedError
from nbledger_workers.kernel.supervising.handed_back import MOST_RESULTS, PATTERN
from nbledger_workers.results import descriptions
from nbledger_workers.results.copying import Copier, in_thread
from nbledger_workers.results.datasets import InvalidTableError
from nbledger_workers.results.descriptions import (
    EnrichedDataset,
    InvalidResultError,
    Metric,
    ResultFile,
)
from nbledger_workers.results.enriched_datasets import EnrichedDatasets
from nbledger_workers.results.shown_names import shown, shown_names
from nbledger_workers.storing.patience import Patience
from nbledger_workers.storing.spool import Spool
from nbledger_workers.translation.steps import Step

log = structlog.get_logger(__name__)

_MOST_METRICS: Final = 1000
_MOST_NAMES: Final = 100_000
"""Names that are looked at in a folder."""
_FEW_NAMES: Final = 64
"""So many are looked at faster than another thread is asked to."""
_MOST_WARNINGS: Final = 50
_SHOWN: Final = 200
"""Characters of a path that are told."""

_Kind = Literal["report", "dataset", "model", "file"]
_KINDS: Final[dict[type, _Kind]] = {descriptions.Model: "model", descriptions.Report: "report"}
_TROUBLE: Final = (OSError, ArtifactStoreUnavailableError)
"""What a full disk or an artifact store that stays away raises: it costs the result. Who runs the
notebook finds out by the spool that the store has stayed away."""
_Metrics = dict[str | None, dict[str, float]]
"""Figures by name, of each cell."""


class _Stored(msgspec.Struct, frozen=True):
    file: ResultFile
    content: Representation


class _Handed(msgspec.Struct, frozen=True):
    """A description that is to be taken, of which cell, and when that was over."""

    name: str
    mark: Mark
    cell_id: str | None = None
    until_ns: int | None = None


class Collector:
    """Takes what one attempt leaves, within the limits, and tells what it could not take.

    Everything is copied out of the reach of the notebook first and stored before a step names it.
    Steps are added to the caller's as they come about, so that a caller who has waited long enough
    keeps those of what was taken until then. Its methods raise what the event store raises.
    """

    def __init__(
        self,
        store: EventStore,
        artifacts: Spool,
        limits: settings.RunLimits,
        claim: Claim,
        *,
        patience: Patience,
    ) -> None:
        self._artifacts = artifacts
        self._claim = claim
        stream = claim.stream
        self._scope = Scope(stream.tenant_id, stream.project_id, stream.subject_id)
        self._copier = Copier(limits)
        self._seen: dict[str, Mark] = {}
        self._read = 0
        self._metrics: set[str] = set()
        self._warned = 0
        self._waiting: list[_Handed] = []
        self._datasets = EnrichedDatasets(store, artifacts, claim, patience)

    async def close(self) -> None:
        """End what it has started."""
        await self._datasets.close()

    def cell_ended(
        self, cell_id: str | None, handed_back: Sequence[Described], looked_ns: int
    ) -> None:
        """These descriptions are the cell's: they were new or changed when it was over."""
        self._waiting += [
            _Handed(each.name, Mark(each.inode, each.changed_ns), cell_id, looked_ns)
            for each in handed_back
        ]

    async def handed_back(self, folder: Path, steps: list[Step], *, all_over: bool) -> None:
        """Take the results of the cells that have ended since the last time.

        When all is over, what no cell is known to have handed back is taken, too.
        """
        metrics: _Metrics = {}
        try:
            await self._take_new(folder, steps, metrics, all_over=all_over)
        except _TROUBLE as error:
            steps += self.warning(f"Results that were handed back are not kept: {_told(error)}.")
        finally:
            steps += [self._log(cell_id, told) for cell_id, told in metrics.items()]

    async def _take_new(
        self, folder: Path, steps: list[Step], metrics: _Metrics, *, all_over: bool
    ) -> None:
        if not self._waiting and not all_over:
            return
        with run_folder.opened_folder(folder, _below(folder, results_folder(folder))) as place:
            if place is None:
                return
            waiting, self._waiting = self._waiting, []
            await self._take_each(place, waiting, folder, steps, metrics)
            if all_over:
                left = await self._left(place, steps)
                await self._take_each(place, left, folder, steps, metrics)

    async def _left(self, place: int, steps: list[Step]) -> list[_Handed]:
        """Descriptions that were not there, or were others, when the last cell was over."""
        found, cut = run_folder.names(place, PATTERN, limit=_FEW_NAMES)
        if cut:
            found, cut = await in_thread(
                partial(run_folder.names, place, PATTERN, limit=_MOST_NAMES)
            )
        if cut:
            steps += self.warning("There are too many files among the results to see them all.")
        return [_Handed(name, mark) for name, mark in found if self._seen.get(name) != mark]

    async def _take_each(
        self,
        place: int,
        handed: list[_Handed],
        folder: Path,
        steps: list[Step],
        metrics: _Metrics,
    ) -> None:
        if not handed:
            return
        with tempfile.TemporaryDirectory(prefix="taken-", dir=folder.parent) as private:
            for each in handed:
                self._seen[each.name] = each.mark
                self._read += 1
                if self._read > MOST_RESULTS:
                    if self._read == MOST_RESULTS + 1:
                        steps += self.warning("Of too many results the later are not kept.")
                    break
                try:
                    steps += await self._take(place, each, metrics, Path(private))
                except _TROUBLE as error:
                    if isinstance(error, ArtifactStoreUnavailableError):
                        self._artifacts.give_up(error)
                    steps += self.warning(
                        f"A result that was handed back ({each.name}) is not kept: {_told(error)}."
                    )

    async def left_behind(self, folder: Path, steps: list[Step]) -> None:
        """Take the files in `outputs/`."""
        try:
            await self._take_files(folder, steps)
        except _TROUBLE as error:
            steps += self.warning(f"Files in outputs/ are not kept: {_told(error)}.")

    async def _take_files(self, folder: Path, steps: list[Step]) -> None:
        with run_folder.opened_folder(folder, _below(folder, outputs_folder(folder))) as place:
            if place is None or run_folder.is_empty(place):
                return
            paths, cut, closed = await in_thread(
                partial(run_folder.files, place, limit=_MOST_NAMES)
            )
            if cut:
                steps += self.warning(
                    f"There are more than {_MOST_NAMES:,} names in outputs/: "
                    "files beyond them are not kept."
                )
            if closed:
                others = f" and {len(closed) - 1} other folders" if len(closed) > 1 else ""
                steps += self.warning(
                    f"What is in outputs/{shown(closed[0])[:_SHOWN]}{others} is not kept: "
                    "too deep, or it cannot be opened."
                )
            if not paths:
                return
            names = shown_names(paths)
            with tempfile.TemporaryDirectory(prefix="taken-", dir=folder.parent) as private:
                for number, path in enumerate(paths):
                    if self._copier.files_left <= 0:
                        left = len(paths) - number
                        steps += self.warning(
                            f"{left} of {len(paths)} files in outputs/ are not kept: "
                            "a run may leave no more."
                        )
                        break
                    try:
                        steps += await self._take_file(place, path, names[path], Path(private))
                    except _TROUBLE as error:
                        steps += self.warning(
                            f"The file outputs/{names[path]} is not kept: {_told(error)}."
                        )

    def warning(self, text: str) -> list[Step]:
        """The step that tells of something; none where too much has been told already."""
        self._warned += 1
        if self._warned > _MOST_WARNINGS:
            return []
        if self._warned == _MOST_WARNINGS:
            text = "Further warnings were suppressed."
        log.info("run warned", warning=text)
        epoch, at = self._claim.epoch, clock.now()
        return [lambda execution: execution.warn(epoch, text, at=at)]

    def _take_metric(self, metric: Metric, cell_id: str | None, metrics: _Metrics) -> list[Step]:
        if metric.name not in self._metrics and len(self._metrics) >= _MOST_METRICS:
            return self.warning(f"The metric {metric.name!r} is not kept: there are too many.")
        self._metrics.add(metric.name)
        metrics.setdefault(cell_id, {})[metric.name] = metric.attributes.value
        return []

    async def _take(  # noqa: C901 - one result, step by step
        self, place: int, handed: _Handed, metrics: _Metrics, private: Path
    ) -> list[Step]:
        name, cell_id, until = handed.name, handed.cell_id, handed.until_ns
        try:
            content = await in_thread(
                partial(
                    run_folder.read, place, name, limit=descriptions.MAX_BYTES, mark=handed.mark
                )
            )
            result = descriptions.decode(content)
        except (RefusedError, InvalidResultError) as error:
            return self.warning(f"A result that was handed back ({name}) is not kept: {error}.")
        if isinstance(result, Metric):
            return self._take_metric(result, cell_id, metrics)
        what = f"{result.__struct_config__.tag} {result.name!r}".replace("_", " ")
        first, *others = descriptions.in_order(result)
        main = private / "main"
        try:
            copied = await self._copier.copy(place, first.path, main, until)
        except RefusedError as error:
            return self.warning(f"The {what} is not kept: {error}.")
        stored = await self._put(main, first, copied)
        warnings: list[Step] = []
        alternatives = []
        table = main
        for other in others:
            path = private / other.role
            try:
                copied = await self._copier.copy(place, other.path, path, until)
            except RefusedError as error:
                warnings += self.warning(
                    f"A form of the {what} ({other.role}) is not kept: {error}."
                )
                continue
            alternatives.append(await self._put(path, other, copied))
            if other.role == "table":
                table = path
        kind = _KINDS.get(type(result), "file")
        if isinstance(result, EnrichedDataset):
            kind = "dataset"
            try:
                form = result.attributes.format if table is main else "parquet"
                attributes = await self._datasets.keep(result, table, form)
            except InvalidTableError as error:
                # What the notebook says of it is worth nothing then, but its bytes may be.
                warnings += self.warning(f"The {what} is kept as a mere file: {error}.")
                kind, attributes = "file", {}
        else:
            attributes = descriptions.attributes(result)
        if cell_id is not None:
            attributes["cellId"] = cell_id
        if alternatives:
            attributes["alternatives"] = [
                {
                    "role": each.file.role,
                    "fileName": each.file.file_name,
                    "contentType": each.content.content_type,
                    "digest": each.content.digest,
                    "size": each.content.size,
                }
                for each in alternatives
            ]
        step = self._artifact(kind, result.name, first.file_name, stored.content, attributes)
        return [*warnings, step]

    async def _take_file(self, place: int, path: str, name: str, private: Path) -> list[Step]:
        copy = private / "file"
        try:
            copied = await self._copier.copy(place, path, copy)
        except RefusedError as error:
            return self.warning(f"The file outputs/{name} is not kept: {error}.")
        digest = await self._artifacts.put_file(self._scope, copy, digest=copied.digest)
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        content = Representation(media_type, digest, copied.size)
        return [self._artifact("file", name, name.rsplit("/", 1)[-1], content, {"path": name})]

    async def _put(self, path: Path, file: ResultFile, copied: Copied) -> _Stored:
        digest = await self._artifacts.put_file(self._scope, path, digest=copied.digest)
        return _Stored(file, Representation(file.media_type, digest, copied.size))

    def _log(self, cell_id: str | None, metrics: dict[str, float]) -> Step:
        epoch, at = self._claim.epoch, clock.now()
        return lambda execution: execution.log_metrics(epoch, metrics, cell_id=cell_id, at=at)

    def _artifact(
        self,
        kind: _Kind,
        name: str,
        file_name: str,
        content: Representation,
        attributes: dict[str, Any],
    ) -> Step:
        epoch, at = self._claim.epoch, clock.now()
        digests = [content.digest, *(o["digest"] for o in attributes.get("alternatives", ()))]

        def step(execution: Execution) -> None:
            if any(map(self._artifacts.is_lost, digests)):
                execution.warn(
                    epoch, f"The {kind} {name!r} is not kept: it could not be stored.", at=at
                )
                return
            execution.store_artifact(
                epoch,
                kind=kind,
                name=name,
                file_name=file_name,
                content=content,
                attributes=attributes,
                at=at,
            )

        return step


def _told(error: Exception) -> str:
    """Why, without paths and addresses of the service's."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it took too long" if isinstance(error, TimeoutError) else "it could not be stored"


def _below(folder: Path, place: Path) -> str:
    return place.relative_to(folder).as_posix()
