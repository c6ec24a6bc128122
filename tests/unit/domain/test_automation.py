"""Automatic execution in a simulated world: when runs start, and that every chain of them ends.

Events are folded by the very code that folds them from the store; time is a number.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbledger_application.automation.folding import AutomationRows
from nbledger_application.automation.recording import told
from nbledger_application.automation.rows import TriggerRow
from nbledger_domain import events
from nbledger_domain.automation import (
    AutomationSettings,
    Trigger,
    TriggeringChange,
    bound_dataset,
    changes,
    execution_id_of,
    trigger_id_of,
)
from nbledger_domain.automation.chains import (
    MOST_CHAINS,
    MOST_LINKS,
    Chain,
    continued,
    merged,
    short_enough,
    without_loops,
)
from nbledger_domain.automation.changes import MOST_KEPT
from nbledger_domain.dataset import Dataset, Source
from nbledger_domain.events import DomainEvent
from nbledger_domain.execution import (
    Execution,
    PlannedCell,
    Representation,
    Resources,
    RunOptions,
)
from nbledger_domain.notebook import Integration, Notebook
from nbledger_infrastructure.postgres.event_store import Metadata, RecordedEvent

START = datetime(2026, 1, 1, tzinfo=UTC)
_PLACE = uuid4()


def _id(name: str) -> UUID:
    return uuid5(_PLACE, name)


class World:
    """Notebooks, datasets, runs that take their time, and somebody who starts them when due.

    ``writes`` names the datasets that each notebook's runs give a new version.
    """

    def __init__(self, writes: dict[UUID, Sequence[UUID]], seconds: float = 3.0) -> None:
        self.writes = writes
        self.seconds = seconds
        self.now = START
        self.log: list[RecordedEvent] = []
        self.started: list[tuple[datetime, UUID, Trigger.Started]] = []
        self.skipped: list[tuple[UUID, Trigger.Skipped]] = []
        self._integrations: dict[UUID, Integration] = {}
        self._chains: dict[UUID, Sequence[Chain]] = {}
        self._of_runs: dict[UUID, Sequence[Chain]] = {}
        self._to_come: list[tuple[datetime, int, Any]] = []
        self._order = itertools.count()
        self._rows = AutomationRows(self._integrations, self._chains, 0)

    # --- what happens -------------------------------------------------------------------------

    def notebook(self, notebook_id: UUID, integration: Integration) -> None:
        event = Notebook.IntegrationConfigured(**self._next(notebook_id), integration=integration)
        self._record(event, notebook_id)

    def edit(self, notebook_id: UUID) -> None:
        self._record(Notebook.CellsUpdated(**self._next(notebook_id), cells=[]), notebook_id)

    def upload(self, dataset_id: UUID) -> None:
        self._add_version(dataset_id, Source(kind="upload"), ((),))

    def request(self, notebook_id: UUID) -> None:
        """A run that somebody asks for, or a schedule."""
        self._run(notebook_id, uuid4(), ((),))

    def at(self, seconds: float, action: Any) -> None:
        moment = START + timedelta(seconds=seconds)
        heapq.heappush(self._to_come, (moment, next(self._order), action))

    # --- what comes of it ---------------------------------------------------------------------

    def play(self, *, most: int = 1500) -> None:
        """Let time pass until nothing is left to happen."""
        for _ in range(most):
            due = self._due()
            if self._to_come and (due is None or self._to_come[0][0] <= due):
                self.now, _, action = heapq.heappop(self._to_come)
                action()
            elif due is not None:
                self.now = max(self.now, due)
                self._decide()
            else:
                return
        raise AssertionError("it goes on for ever")

    def triggers(self) -> list[TriggerRow]:
        return [each for of_one in self._rows._triggers.values() for each in of_one.values()]

    def _due(self) -> datetime | None:
        if any(each.state == "skipping" for each in self.triggers()):
            return self.now
        due = (each.due_at for each in self.triggers() if each.state == "gathering")
        return min((each for each in due if each is not None), default=None)

    def _decide(self) -> None:
        for row in self.triggers():
            if row.state == "skipping":
                assert row.reason is not None
                skipped = Trigger.Skipped(**told(row), reason=row.reason)
                self.skipped.append((row.notebook_id, skipped))
                self._record(skipped, row.notebook_id)
            elif row.due_at is not None and row.due_at <= self.now:
                self._start(row)

    def _start(self, row: TriggerRow) -> None:
        event = Trigger.Started(
            **told(row), execution_id=row.execution_id, notebook_stream_version=1
        )
        self.meanwhile(row)
        self.started.append((self.now, row.notebook_id, event))
        self._record(event, row.notebook_id)
        chains = [tuple(chain) for chain in event.chains or [[]]]
        self._run(row.notebook_id, event.execution_id, chains)

    def decide_late(self, notebook_id: UUID, event: Trigger.Started) -> None:
        """Let a decision come that was made earlier."""
        self.started.append((self.now, notebook_id, event))
        self._record(event, notebook_id)
        self._run(notebook_id, event.execution_id, ((),))

    def meanwhile(self, row: TriggerRow) -> None:
        """What comes between a decision and its event."""

    def _run(self, notebook_id: UUID, execution_id: UUID, chains: Sequence[Chain]) -> None:
        requested = Execution.Requested(
            **self._next(execution_id),
            originator_topic="",
            notebook_id=notebook_id,
            notebook_version="1.0.0",
            notebook_stream_version=1,
            kernel_type="python3",
            cell_range=None,
            cells=[PlannedCell("c", "code")],
            parameters={},
            options=RunOptions(timeout=60.0),
            requested_by="ann",
        )
        self._record(requested, notebook_id)
        self._of_runs[execution_id] = chains

        def end() -> None:
            for dataset_id in self.writes.get(notebook_id, ()):
                source = Source(
                    kind="execution", execution_id=execution_id, notebook_id=notebook_id
                )
                self._add_version(dataset_id, source, continued(chains, notebook_id))
            completed = Execution.Completed(**self._next(execution_id), resources=Resources())
            self._record(completed, notebook_id)

        self.at((self.now - START).total_seconds() + self.seconds, end)

    def _add_version(self, dataset_id: UUID, source: Source, chains: Iterable[Chain]) -> None:
        event = Dataset.VersionAdded(
            **self._next(dataset_id),
            dataset_version=len(self.log) + 1,
            content=Representation("application/vnd.apache.parquet", "00", 1),
            rows=1,
            columns=[],
            source=source,
        )
        self._record(event, dataset_id, tuple(chains))

    def _next(self, stream_id: UUID) -> dict[str, Any]:
        version = sum(each.stream_id == stream_id for each in self.log) + 1
        return {
            "originator_id": stream_id,
            "originator_version": version,
            "timestamp": self.now,
        }

    def _record(
        self, event: DomainEvent, subject_id: UUID, chains: Sequence[Chain] = ((),)
    ) -> None:
        recorded = RecordedEvent(
            position=len(self.log) + 1,
            stream_id=event.originator_id,
            version=event.originator_version,
            event_id=uuid4(),
            type=event.TYPE,
            subject_id=subject_id,
            tenant_id=_PLACE,
            project_id=_PLACE,
            data=events.encode(event),
            metadata=Metadata(actor="ann"),
            occurred_at=self.now,
            recorded_at=self.now,
            digest=b"",
            chain=b"",
            stored_type=event.TYPE,
        )
        self.log.append(recorded)
        self._chains[recorded.event_id] = chains
        self._rows.apply(recorded)

    # --- what is to be true -------------------------------------------------------------------

    def assert_each_change_is_dealt_with_once(
        self, settings: dict[UUID, tuple[AutomationSettings, UUID | None]]
    ) -> None:
        """Every change is told of by one event: each event says how many it speaks of."""
        counted: Counter[UUID] = Counter()
        for _, notebook_id, event in self.started:
            counted[notebook_id] += event.changes
        for notebook_id, skipped in self.skipped:
            counted[notebook_id] += skipped.changes
        expected: Counter[UUID] = Counter()
        for recorded in self.log:
            for notebook_id, (each, bound) in settings.items():
                cells = recorded.type == Notebook.CellsUpdated.TYPE and "cells" in each.on
                expected[notebook_id] += (cells and recorded.subject_id == notebook_id) or (
                    recorded.type == Dataset.VersionAdded.TYPE and recorded.stream_id == bound
                )
        assert counted == +expected
        assert not self.triggers()


# --- when runs start --------------------------------------------------------------------------

N, D = _id("notebook"), _id("dataset")
seconds = st.integers(0, 40)


@given(
    times=st.lists(st.tuples(st.integers(0, 200), st.booleans()), min_size=1, max_size=40),
    quiet=seconds,
    longest=st.none() | seconds,
    interval=seconds,
    takes=st.integers(1, 50),
)
def test_runs_start_when_it_is_quiet_and_not_too_late(
    times: list[tuple[int, bool]], quiet: int, longest: int | None, interval: int, takes: int
) -> None:
    if longest is not None:
        longest += quiet
    settings = AutomationSettings(
        quiet_seconds=quiet, max_wait_seconds=longest, min_interval_seconds=interval
    )
    world = World({}, takes)
    world.notebook(N, Integration(auto_execution=settings, dataset_binding=str(D)))
    for moment, of_dataset in times:
        world.at(moment, (lambda: world.upload(D)) if of_dataset else (lambda: world.edit(N)))
    world.play()
    world.assert_each_change_is_dealt_with_once({N: (settings, D)})
    at = {recorded.position: recorded.recorded_at for recorded in world.log}
    told_of = [
        recorded
        for recorded in world.log
        if recorded.type in (Dataset.VersionAdded.TYPE, Notebook.CellsUpdated.TYPE)
    ]
    free = START - timedelta(days=1)  # when the run before has ended, and the interval is over
    for started_at, _, event in world.started:
        of_it, told_of = told_of[: event.changes], told_of[event.changes :]
        assert (of_it[0].event_id, of_it[-1].event_id) == (
            event.first_event_id,
            event.last_event_id,
        )
        assert event.through == of_it[-1].position
        assert event.kind == ("dataset" if of_it[-1].stream_id == D else "cells")
        first, last = of_it[0].recorded_at, of_it[-1].recorded_at
        quiet_at = min(
            last + timedelta(seconds=quiet), first + timedelta(seconds=settings.longest_wait)
        )
        assert started_at == max(quiet_at, free, at[event.through])
        free = started_at + timedelta(seconds=max(interval, takes))
    assert told_of == []


@given(
    gaps=st.lists(st.integers(0, 8), min_size=1, max_size=20),
    unseen=st.lists(st.integers(0, 3), max_size=20),
)
def test_what_comes_between_a_decision_and_its_event_is_not_forgotten(
    gaps: list[int], unseen: list[int]
) -> None:
    settings = AutomationSettings(quiet_seconds=2)
    left = list(unseen)

    class Busy(World):
        def meanwhile(self, row: TriggerRow) -> None:
            for _ in range(left.pop() if left else 0):
                self.edit(row.notebook_id)

    world = Busy({}, 1)
    world.notebook(N, Integration(auto_execution=settings))
    moment = 0
    for gap in gaps:
        moment += gap
        world.at(moment, lambda: world.edit(N))
    world.play()
    world.assert_each_change_is_dealt_with_once({N: (settings, None)})
    ids = [event.originator_id for _, _, event in world.started]
    assert len(set(ids)) == len(ids)
    assert ids == [trigger_id_of(N, event.first_event_id) for _, _, event in world.started]


def test_many_changes_are_kept_in_little_and_counted_all() -> None:
    world = World({}, 1000)
    settings = AutomationSettings(quiet_seconds=0)
    world.notebook(N, Integration(auto_execution=settings, dataset_binding=str(D)))
    for moment in range(500):
        world.at(moment, (lambda: world.upload(D)) if moment % 3 else (lambda: world.edit(N)))
    world.play()
    assert [event.changes for _, _, event in world.started] == [1, 499]
    world.assert_each_change_is_dealt_with_once({N: (settings, D)})


@pytest.mark.parametrize("seen", [1, 5, MOST_KEPT, MOST_KEPT + 3])
def test_what_a_late_decision_had_not_seen_is_a_trigger_of_its_own(seen: int) -> None:
    """Whoever decides may be far behind, and older changes are told as one by then."""
    world = World({}, 1)
    world.notebook(N, Integration(auto_execution=AutomationSettings(quiet_seconds=60)))
    for _ in range(seen):
        world.edit(N)
    (row,) = world.triggers()
    late = Trigger.Started(**told(row), execution_id=row.execution_id, notebook_stream_version=1)
    for _ in range(MOST_KEPT + 5):
        world.edit(N)
    world.decide_late(N, late)
    (_, rest) = world.triggers()
    assert (rest.state, rest.due_at) == ("gathering", None)  # the run goes on
    world.play()
    assert not world.triggers()
    (_, _, first), (_, _, second) = world.started
    assert first.originator_id != second.originator_id
    assert second.originator_id == trigger_id_of(N, second.first_event_id)
    assert second.through == first.through + MOST_KEPT + 5


def test_a_late_decision_on_what_is_wanted_no_more_takes_nothing_else_along() -> None:
    world = World({}, 1)
    world.notebook(N, Integration(auto_execution=True, dataset_binding=str(D)))
    world.upload(D)
    (row,) = world.triggers()
    late = Trigger.Started(**told(row), execution_id=row.execution_id, notebook_stream_version=1)
    world.edit(N)
    world.notebook(N, Integration(auto_execution=AutomationSettings(on=("cells",))))
    world.decide_late(N, late)
    world.play()
    assert [event.kind for _, _, event in world.started] == ["dataset", "cells"]
    assert len({event.originator_id for _, _, event in world.started}) == 2


def test_settings_that_change_let_go_of_what_they_no_longer_want() -> None:
    def outcomes(*steps: Any) -> list[str]:
        world = World({})
        world.notebook(N, Integration(auto_execution=True, dataset_binding=str(D)))
        for moment, step in enumerate(steps):
            world.at(moment, lambda step=step: step(world))
        world.play()
        assert not world.triggers()
        for _, notebook_id, event in world.started:
            assert event.originator_id == trigger_id_of(notebook_id, event.first_event_id)
        return [
            *(f"{event.changes} {event.kind}" for _, _, event in world.started),
            *(f"{event.changes} {event.reason}" for _, event in world.skipped),
        ]

    def becomes(value: Any, binding: UUID | None = D) -> Any:
        integration = Integration(
            auto_execution=value, dataset_binding=None if binding is None else str(binding)
        )
        return lambda world: world.notebook(N, integration)

    def upload(world: World) -> None:
        world.upload(D)

    def edit(world: World) -> None:
        world.edit(N)

    def deleted(world: World) -> None:
        world._record(Dataset.Deleted(**world._next(D)), D)

    of_cells, of_data = AutomationSettings(on=("cells",)), AutomationSettings(on=("dataset",))
    assert outcomes(upload, edit) == ["2 cells"]
    assert outcomes(upload, becomes(False)) == ["1 switched_off"]
    assert outcomes(upload, becomes(False), becomes(True), edit) == [
        "1 cells",
        "1 switched_off",
    ]
    assert outcomes(upload, becomes(of_cells)) == ["1 switched_off"]
    assert outcomes(upload, edit, becomes(of_data)) == ["1 dataset"]
    assert outcomes(upload, becomes(True, _id("another"))) == ["1 unbound"]
    assert outcomes(upload, edit, becomes(True, None)) == ["1 cells"]
    assert outcomes(upload, deleted) == ["1 dataset_deleted"]
    assert outcomes(edit, upload, deleted) == ["1 cells"]
    # The same settings in other words are no change.
    assert outcomes(upload, becomes(AutomationSettings()), edit) == ["2 cells"]

    def gone(world: World) -> None:
        world._record(Notebook.DeletionRequested(**world._next(N)), N)

    assert outcomes(upload, edit, gone, upload) == []


def test_settings_have_defaults_that_fit_together() -> None:
    assert AutomationSettings.of(False) is None
    assert AutomationSettings.of(True) == AutomationSettings()
    assert AutomationSettings().longest_wait == 60
    assert AutomationSettings(quiet_seconds=30).longest_wait == 300
    assert AutomationSettings(quiet_seconds=30, max_wait_seconds=40).longest_wait == 40
    assert bound_dataset(AutomationSettings(), str(D)) == D
    for binding in (None, "orders", f"{{{D}}}", str(D).replace("-", "")):
        assert bound_dataset(AutomationSettings(), binding) is None
    assert bound_dataset(AutomationSettings(on=("cells",)), str(D)) is None
    assert trigger_id_of(N, D) == trigger_id_of(N, D) != trigger_id_of(D, N)
    assert execution_id_of(N) != N


# --- chains -----------------------------------------------------------------------------------

NOTEBOOKS = [_id(f"notebook {number}") for number in range(5)]
DATASETS = [_id(f"dataset {number}") for number in range(4)]
notebooks = st.sampled_from(NOTEBOOKS)
datasets = st.sampled_from(DATASETS)


def _reached(
    dataset_ids: Iterable[UUID],
    bound: dict[UUID, UUID],
    writes: dict[UUID, Sequence[UUID]],
    but: UUID | None = None,
) -> set[UUID]:
    """The notebooks that a change of these datasets leads to, not through ``but``."""
    found: set[UUID] = set()
    ahead = list(dataset_ids)
    while ahead:
        dataset_id = ahead.pop()
        for notebook_id, of_it in bound.items():
            if of_it == dataset_id and notebook_id not in found and notebook_id != but:
                found.add(notebook_id)
                ahead += writes.get(notebook_id, ())
    return found


@pytest.mark.guarantee("G34")
@given(
    bound=st.dictionaries(notebooks, datasets, min_size=1),
    writes=st.dictionaries(notebooks, st.lists(datasets, unique=True, max_size=3)),
    causes=st.lists(
        st.tuples(st.integers(0, 60), st.sampled_from(("upload", "run")), st.integers(0, 100)),
        min_size=1,
        max_size=6,
    ),
    quiet=st.integers(0, 10),
    takes=st.integers(1, 20),
)
def test_every_chain_ends_and_leads_to_all_that_depends_on_it(
    bound: dict[UUID, UUID],
    writes: dict[UUID, Sequence[UUID]],
    causes: list[tuple[int, str, int]],
    quiet: int,
    takes: int,
) -> None:
    settings = AutomationSettings(quiet_seconds=quiet)
    world = World(writes, takes)
    for notebook_id in NOTEBOOKS:
        binding = str(bound[notebook_id]) if notebook_id in bound else None
        world.notebook(notebook_id, Integration(auto_execution=settings, dataset_binding=binding))
    roots: list[tuple[int, set[UUID]]] = []

    def cause(kind: str, number: int) -> None:
        if kind == "upload":
            dataset_id = DATASETS[number % len(DATASETS)]
            roots.append((len(world.log), _reached([dataset_id], bound, writes)))
            world.upload(dataset_id)
        else:
            notebook_id = NOTEBOOKS[number % len(NOTEBOOKS)]
            made = writes.get(notebook_id, ())
            roots.append((len(world.log), _reached(made, bound, writes, but=notebook_id)))
            world.request(notebook_id)

    for moment, kind, number in causes:
        world.at(moment, lambda kind=kind, number=number: cause(kind, number))
    world.play()
    world.assert_each_change_is_dealt_with_once(
        {each: (settings, bound.get(each)) for each in NOTEBOOKS}
    )
    assert {event.reason for _, event in world.skipped} <= {"loop"}
    positions: dict[UUID, int] = {}
    for recorded in world.log:
        if recorded.type == Trigger.Started.TYPE:
            positions[recorded.subject_id] = recorded.position
    for position, reached in roots:
        for notebook_id in reached:
            assert positions.get(notebook_id, 0) > position
    _assert_chains_are_told(world)


def _assert_chains_are_told(world: World) -> None:
    for _, notebook_id, started in world.started:
        assert all(notebook_id not in chain for chain in started.chains or [])
        assert all(len(set(chain)) == len(chain) for chain in started.chains or [])
    for notebook_id, skipped in world.skipped:
        assert skipped.chains
        assert all(notebook_id in chain for chain in skipped.chains)


@pytest.mark.guarantee("G34")
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_circle_of_notebooks_goes_round_once(length: int) -> None:
    circle = NOTEBOOKS[:length]
    data = [_id(f"made by {number}") for number in range(length)]
    world = World({each: [data[at]] for at, each in enumerate(circle)})
    settings = AutomationSettings(quiet_seconds=1)
    for at, notebook_id in enumerate(circle):
        world.notebook(
            notebook_id, Integration(auto_execution=settings, dataset_binding=str(data[at - 1]))
        )
    world.request(circle[0])
    world.play()
    assert [each for _, each, _ in world.started] == circle[1:]
    assert [(each, event.reason) for each, event in world.skipped] == [(circle[0], "loop")]
    assert world.skipped[0][1].chains == [circle]


def test_one_way_without_the_notebook_is_enough() -> None:
    """What two notebooks feed each other is no reason to leave out what somebody uploads."""
    a, b = NOTEBOOKS[:2]
    of_a, of_b = DATASETS[:2]
    world = World({a: [of_a], b: [of_b]}, 3)
    settings = AutomationSettings(quiet_seconds=5)
    world.notebook(a, Integration(auto_execution=settings, dataset_binding=str(of_b)))
    world.notebook(b, Integration(auto_execution=settings, dataset_binding=str(of_a)))
    world.at(0, lambda: world.upload(of_b))  # a starts at 5, and has changed of_a at 8
    world.at(10, lambda: world.upload(of_a))
    world.play()
    ran = [(each, event.changes, event.chains or None) for _, each, event in world.started]
    assert ran == [(a, 1, None), (b, 2, None), (a, 1, [[b]])]
    assert [(each, event.chains) for each, event in world.skipped] == [(b, [[b, a]])]


def test_a_chain_that_is_too_long_ends_and_says_so() -> None:
    line = [_id(f"in line {number}") for number in range(MOST_LINKS + 2)]
    data = [_id(f"made in line {number}") for number in range(len(line))]
    world = World({each: [data[at]] for at, each in enumerate(line)})
    settings = AutomationSettings(on=("dataset",), quiet_seconds=0)
    for at, notebook_id in enumerate(line[1:]):
        world.notebook(
            notebook_id, Integration(auto_execution=settings, dataset_binding=str(data[at]))
        )
    world.request(line[0])
    world.play()
    assert len(world.started) == MOST_LINKS - 1
    assert [event.reason for _, event in world.skipped] == ["chain_too_long"]


def test_chains_are_merged_without_what_says_no_more() -> None:
    a, b, c, d = (_id(each) for each in "abcd")
    assert merged([[(a, b)], [(b,)], [(c, a)], [(a, b, c)]]) == sorted(
        [(b,), (c, a)], key=lambda chain: (len(chain), chain)
    )
    assert merged([[(a, b)], [()]]) == [()]
    assert without_loops([(a, b), (c,)], c) == [(a, b)]
    assert continued([(), (a,)], d) == [(d,), (a, d)]
    many = [tuple(uuid4() for _ in range(3)) for _ in range(2 * MOST_CHAINS)]
    assert len(merged([many])) == MOST_CHAINS
    assert short_enough([(a,) * MOST_LINKS, (a,)]) == [(a,)]


def test_changes_survive_being_stored() -> None:
    change = TriggeringChange(
        kind="dataset",
        first_event_id=N,
        first_at=START,
        event_id=D,
        position=7,
        at=START,
        dataset_id=D,
        dataset_version=3,
        chains=((N,), (D, N)),
        count=4,
    )
    stored = msgspec.json.encode([change])
    assert msgspec.json.decode(stored, type=list[TriggeringChange]) == [change]
    assert changes.count([change, change]) == 8
