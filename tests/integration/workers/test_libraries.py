"""Runs of notebooks that ask for libraries of their project, on a real worker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from support.executions import AS_TESTER, Stage
from support.wheels import make_wheel, only_from

from nbledger_application import repository
from nbledger_domain.execution import Execution, ExecutionStatus, Representation, TerminationCode
from nbledger_domain.library import Library
from nbledger_domain.notebook import Environment
from nbledger_infrastructure import clock
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_infrastructure.packages.wheels import WHEEL, read_wheel
from nbledger_infrastructure.postgres.event_store import Stream
from nbledger_infrastructure.settings import Environments

ASKED = Environment(custom_libraries=["Our_Rules"])


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place of packages, so that nothing comes over a network."""
    folder = tmp_path / "wheels"
    only_from(folder, monkeypatch)
    return folder


@pytest.fixture
def provided(tmp_path: Path) -> Environments:
    (tmp_path / "libraries").mkdir()
    return Environments(folder=str(tmp_path / "cache"), library_folder=str(tmp_path / "libraries"))


async def keep(scene: Stage, wheel: Path, *, project_id: UUID | None = None) -> Library:
    """Keep a wheel as the API does."""
    told = await asyncio.to_thread(read_wheel, wheel, wheel.name)
    scope = Scope(scene.tenant_id, project_id or scene.project_id, uuid4())
    digest = await scene.artifacts.put_file(scope, wheel)
    library = Library.upload(
        scope.notebook_id,
        name=told.name,
        version=told.version,
        file_name=wheel.name,
        content=Representation(WHEEL, digest, (await asyncio.to_thread(wheel.stat)).st_size),
        requires_python=told.requires_python,
        dependencies=told.dependencies,
        at=clock.now(),
    )
    stream = Stream(library.id, library.id, scope.tenant_id, scope.project_id)
    await repository.save(scene.store, library, stream, AS_TESTER)
    return library


async def delete(scene: Stage, library: Library) -> None:
    await repository.update(
        scene.store, Library, library.id, lambda each: each.delete(at=clock.now()), AS_TESTER
    )


async def environments(scene: Stage, execution_id: UUID) -> list[tuple[str | None, list[str]]]:
    """The environments that a run got, each with what it adds."""
    told = await scene.events(execution_id, Execution.EnvironmentProgressed)
    return [(each.environment, each.packages) for each in told if each.stage == "ready"]


async def ended(scene: Stage, execution_id: UUID) -> tuple[ExecutionStatus, list[object]]:
    """How a run has ended, with the errors of its cells."""
    await scene.command(execution_id)
    execution = await scene.until(execution_id, seconds=60)
    cells = await scene.events(execution_id, Execution.CellExecuted)
    return execution.status, [each.error for each in cells if each.error is not None]


COMPLETED: tuple[ExecutionStatus, list[object]] = (ExecutionStatus.COMPLETED, [])


async def test_an_uploaded_library_is_imported_and_so_is_its_next_version(
    scene: Stage, wheels: Path, provided: Environments, tmp_path: Path
) -> None:
    make_wheel(wheels, "tinyone")
    # One of the operator's of the same name, which is newer, and comes after the project's own.
    make_wheel(tmp_path / "libraries", "our_rules", "9.0")
    await keep(scene, make_wheel(tmp_path, "our_rules", "1.9", requires=["tinyone"]))
    source = """
import our_rules, pathlib
try:
    import tinyone
except ImportError:
    tinyone = None
pathlib.Path('outputs').mkdir(exist_ok=True)
assert our_rules.VERSION == EXPECTED, our_rules.VERSION
assert our_rules.__file__.startswith(__import__('sys').prefix)
"""

    def cell(version: str) -> str:
        return source.replace("EXPECTED", repr(version))

    async with scene.worker(environments=provided):
        first = await scene.request(cell("1.9"), "tinyone.VERSION", environment=ASKED)
        assert await ended(scene, first) == COMPLETED
        await keep(scene, make_wheel(tmp_path, "our_rules", "1.10"))
        second = await scene.request(cell("1.10"), environment=ASKED)
        # Other projects have neither: they get the operator's.
        scene.project_id = uuid4()
        other = await scene.request(cell("9.0"), environment=ASKED)
        both = list(await asyncio.gather(ended(scene, second), ended(scene, other)))
        assert both == [COMPLETED, COMPLETED]

    ((one, packages),) = await environments(scene, first)
    assert packages == ["our-rules==1.9", "tinyone==1.0"]
    ((two, packages),) = await environments(scene, second)
    assert packages == ["our-rules==1.10"]
    ((three, packages),) = await environments(scene, other)
    assert packages == ["our-rules==9.0"]
    assert len({one, two, three}) == 3


async def test_what_is_not_there_any_more_is_told(
    scene: Stage, wheels: Path, provided: Environments, tmp_path: Path
) -> None:
    artifacts = scene.artifacts
    library = await keep(scene, make_wheel(tmp_path, "our_rules"))
    scope = Scope(scene.tenant_id, scene.project_id, library.id)

    async def failure() -> str:
        execution_id = await scene.request("1", environment=ASKED)
        await scene.command(execution_id)
        execution = await scene.until(execution_id)
        assert execution.termination_code is TerminationCode.ENVIRONMENT_FAILED
        assert "cell-started" not in await scene.types(execution_id)
        (failed,) = await scene.events(execution_id, Execution.Failed)
        return failed.detail

    async with scene.worker(environments=provided):
        await artifacts.put(scope, b"something else", digest=library.content.digest)
        assert "our_rules-1.0-py3-none-any.whl is damaged" in await failure()
        await artifacts.delete_all(scope)
        assert await failure() == "The library our-rules 1.0 is not kept any more."
        await delete(scene, library)
        unfit = await keep(scene, make_wheel(tmp_path, "our_rules", requires_python=">=4"))
        assert "Python>=4" in await failure()
        await delete(scene, unfit)
        gone = await scene.request("1", environment=ASKED)
        assert await ended(scene, gone) == COMPLETED
    assert await scene.warnings(gone) == ["customLibraries: no library 'Our_Rules' is known here"]


async def test_where_nothing_is_provided_an_uploaded_library_is_a_warning(
    scene: Stage, provided: Environments, tmp_path: Path
) -> None:
    await keep(scene, make_wheel(tmp_path, "our_rules"))
    execution_id = await scene.request("1", environment=ASKED)
    async with scene.worker(environments=Environments(provisioning=False)):
        assert await ended(scene, execution_id) == COMPLETED
    assert await scene.warnings(execution_id) == [
        "customLibraries: 'Our_Rules' is not installed, and nothing is provided here"
    ]
