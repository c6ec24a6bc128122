"""The notebook aggregate: a state machine over its commands, and what they mean."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.replaying import assert_replays, stored_and_read

from nbledger_domain import events
from nbledger_domain.cells import Cell
from nbledger_domain.errors import NotebookNotFoundError
from nbledger_domain.events import DomainEvent
from nbledger_domain.notebook import Environment, Integration, Notebook, NotebookChanges

AT = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)

texts = st.text(max_size=20)
cell_lists = st.lists(
    st.builds(
        Cell,
        cell_id=st.sampled_from([f"cell-{n:03d}" for n in range(1, 9)]),
        cell_type=st.sampled_from(["code", "markdown", "raw"]),
        source=texts,
        metadata=st.dictionaries(texts, st.integers() | texts | st.none(), max_size=2),
    ),
    max_size=5,
    unique_by=lambda cell: cell.cell_id,
)
unset = st.just(msgspec.UNSET)
changes = st.builds(
    NotebookChanges,
    name=texts | unset,
    description=texts | unset,
    integration=st.builds(
        Integration, enrichment_mode=st.booleans(), dataset_binding=texts | st.none()
    )
    | unset,
    environment=st.builds(Environment, packages=st.lists(texts, max_size=3)) | unset,
    cells=cell_lists | unset,
)


def make(cells: list[Cell] | None = None, notebook_id: UUID | None = None) -> Notebook:
    return Notebook.create(
        notebook_id or uuid4(),
        name="Process Mining Analysis",
        description="",
        kernel_type="python3",
        integration=Integration(),
        environment=Environment(),
        cells=cells or [],
        created_by="user123",
        at=AT,
    )


class NotebookMachine(RuleBasedStateMachine):
    """Any order of commands, the same state live and replayed."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[DomainEvent] = []
        self.at = AT

    def tick(self) -> datetime:
        self.at += timedelta(microseconds=1)
        return self.at

    @initialize(cells=cell_lists)
    def create(self, cells: list[Cell]) -> None:
        self.notebook = make(cells)
        self.collect()

    def collect(self) -> list[DomainEvent]:
        decided = stored_and_read(self.notebook)
        self.history += decided
        return decided

    @rule(change=changes)
    @precondition(lambda self: not self.notebook.deletion_requested)
    def update(self, change: NotebookChanges) -> None:
        version, cells = self.notebook.notebook_version, self.notebook.cells
        changed = self.notebook.update(change, at=self.tick())
        decided = self.collect()
        assert changed == bool(decided) == (self.notebook.notebook_version != version)
        if changed:
            minor_raised = self.notebook.notebook_version.endswith(".0")
            assert minor_raised == (self.notebook.cells != cells)
        assert self.notebook.update(change, at=self.tick()) is False, "twice is no change"

    @rule()
    @precondition(lambda self: not self.notebook.deletion_requested)
    def request_deletion(self) -> None:
        self.notebook.request_deletion(at=self.tick())
        self.collect()

    @rule()
    @precondition(lambda self: self.notebook.deletion_requested and not self.notebook.deleted)
    def delete(self) -> None:
        self.notebook.delete(at=self.tick())
        self.collect()

    @rule(change=changes)
    @precondition(lambda self: self.notebook.deletion_requested)
    def nothing_happens_after_deletion(self, change: NotebookChanges) -> None:
        with pytest.raises(NotebookNotFoundError):
            self.notebook.update(change, at=self.tick())
        assert self.collect() == []

    @invariant()
    def replays(self) -> None:
        if self.history:
            assert_replays(self.notebook, self.history)


TestNotebookMachine = NotebookMachine.TestCase
TestNotebookMachine.settings = settings(max_examples=40)


def test_an_update_touches_only_what_it_names() -> None:
    notebook = make([Cell(cell_id="cell-001", cell_type="code", source="1")])
    notebook.collect_events()
    notebook.update(NotebookChanges(name="v2"), at=AT)
    assert [type(event).TYPE for event in stored_and_read(notebook)] == [
        "notebook.renamed.v1",
        "notebook.version-bumped.v1",
    ]
    assert notebook.notebook_version == "1.0.1"


def test_changed_cells_raise_the_minor_version_and_only_they_count_as_modified() -> None:
    first = Cell(cell_id="cell-001", cell_type="code", source="1")
    second = Cell(cell_id="cell-002", cell_type="code", source="2")
    notebook = make([first, second])
    later = AT + timedelta(days=1)
    changed = msgspec.structs.replace(second, source="3")
    assert notebook.update(NotebookChanges(cells=[first, changed]), at=later)
    assert notebook.notebook_version == "1.1.0"
    assert [cell.modified_at for cell in notebook.cells] == [AT, later]


def test_an_unknown_event_type_is_refused() -> None:
    with pytest.raises(events.UnknownEventTypeError):
        events.decode("notebook.vanished.v9", b"{}", stream_id=uuid4(), version=1, occurred_at=AT)
