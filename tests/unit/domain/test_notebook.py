"""The notebook aggregate: a state machine over its commands, and what they mean."""

from datetime import timedelta
from uuid import uuid4

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from support.aggregates import AT, AggregateMachine, a_notebook, given

from nbledger_domain import events
from nbledger_domain.cells import Cell
from nbledger_domain.errors import NotebookNotFoundError
from nbledger_domain.notebook import Environment, Integration, Notebook, NotebookChanges

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


class NotebookMachine(AggregateMachine[Notebook]):
    """Any order of commands, the same state live and replayed."""

    @initialize(cells=cell_lists)
    def create(self, cells: list[Cell]) -> None:
        self.aggregate = a_notebook(cells)
        self.collect()

    @rule(change=changes)
    @precondition(lambda self: not self.aggregate.deletion_requested)
    def update(self, change: NotebookChanges) -> None:
        version, cells = self.aggregate.notebook_version, self.aggregate.cells
        changed = self.aggregate.update(change, at=self.tick())
        decided = self.collect()
        assert changed == bool(decided) == (self.aggregate.notebook_version != version)
        if changed:
            minor_raised = self.aggregate.notebook_version.endswith(".0")
            assert minor_raised == (self.aggregate.cells != cells)
        assert self.aggregate.update(change, at=self.tick()) is False, "twice is no change"

    @rule()
    @precondition(lambda self: not self.aggregate.deletion_requested)
    def request_deletion(self) -> None:
        self.aggregate.request_deletion(at=self.tick())
        self.collect()

    @rule()
    @precondition(lambda self: self.aggregate.deletion_requested and not self.aggregate.deleted)
    def delete(self) -> None:
        self.aggregate.delete(at=self.tick())
        self.collect()

    @rule(change=changes)
    @precondition(lambda self: self.aggregate.deletion_requested)
    def nothing_happens_after_deletion(self, change: NotebookChanges) -> None:
        self.refuse(NotebookNotFoundError, lambda: self.aggregate.update(change, at=self.tick()))


TestNotebookMachine = NotebookMachine.TestCase


def test_an_update_touches_only_what_it_names() -> None:
    notebook = given(a_notebook([Cell(cell_id="cell-001", cell_type="code", source="1")]))
    renamed = notebook.when(lambda it: it.update(NotebookChanges(name="v2"), at=AT))
    assert renamed.then(Notebook.Renamed, Notebook.VersionBumped).notebook_version == "1.0.1"


def test_changed_cells_raise_the_minor_version_and_only_they_count_as_modified() -> None:
    first = Cell(cell_id="cell-001", cell_type="code", source="1")
    second = Cell(cell_id="cell-002", cell_type="code", source="2")
    notebook = a_notebook([first, second])
    later = AT + timedelta(days=1)
    changed = msgspec.structs.replace(second, source="3")
    assert notebook.update(NotebookChanges(cells=[first, changed]), at=later)
    assert notebook.notebook_version == "1.1.0"
    assert [cell.modified_at for cell in notebook.cells] == [AT, later]


def test_an_unknown_event_type_is_refused() -> None:
    with pytest.raises(events.UnknownEventTypeError):
        events.decode("notebook.vanished.v9", b"{}", stream_id=uuid4(), version=1, occurred_at=AT)
