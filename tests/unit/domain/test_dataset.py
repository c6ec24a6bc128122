"""The dataset aggregate: a state machine over its commands."""

from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from support.aggregates import AggregateMachine

from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_domain.errors import DatasetNotFoundError, InvalidCsvError
from nbledger_domain.execution import Representation

texts = st.text(max_size=20)
contents = st.builds(
    Representation,
    content_type=st.just("application/vnd.apache.parquet"),
    digest=st.sampled_from(["5f" * 32, "a0" * 32]),
    size=st.integers(0, 2**40),
)
column_lists = st.lists(
    st.builds(Column, name=texts, type=st.sampled_from(["string", "integer", "datetime"])),
    max_size=4,
)
sources = st.builds(Source, kind=st.just("upload"), file_name=texts) | st.builds(
    Source,
    kind=st.just("execution"),
    execution_id=st.uuids(),
    notebook_id=st.uuids(),
    notebook_version=st.just("1.3.2"),
    from_dataset_id=st.uuids() | st.none(),
    from_version=st.integers(1, 9) | st.none(),
)


class DatasetMachine(AggregateMachine[Dataset]):
    """Any order of commands, the same state live and replayed."""

    @initialize(name=texts)
    def create(self, name: str) -> None:
        self.aggregate = Dataset.create(uuid4(), name=name, at=self.tick())
        assert self.aggregate.head is None
        self.collect()

    @rule(content=contents, rows=st.integers(0, 2**40), columns=column_lists, source=sources)
    def add_version(
        self, content: Representation, rows: int, columns: list[Column], source: Source
    ) -> None:
        before = list(self.aggregate.versions)

        def add() -> int:
            return self.aggregate.add_version(
                content=content, rows=rows, columns=columns, source=source, at=self.tick()
            )

        if self.aggregate.deleted:
            self.refuse(DatasetNotFoundError, add)
            assert self.aggregate.versions == before
            return
        number = add()
        assert self.collect()
        assert number == len(before) + 1
        assert self.aggregate.versions[:-1] == before, "a version never changes"
        head = self.aggregate.head
        assert head is not None
        assert (head.number, head.content, head.rows) == (number, content, rows)
        assert (head.columns, head.source) == (columns, source)

    @rule()
    @precondition(lambda self: not self.aggregate.deleted)
    def delete(self) -> None:
        self.aggregate.delete(at=self.tick())
        assert len(self.collect()) == 1

    @rule()
    @precondition(lambda self: self.aggregate.deleted)
    def delete_again(self) -> None:
        self.refuse(DatasetNotFoundError, lambda: self.aggregate.delete(at=self.tick()))


TestDatasetMachine = DatasetMachine.TestCase


def test_a_bad_file_is_told_with_its_place() -> None:
    assert InvalidCsvError("is empty").detail == "is empty"
    error = InvalidCsvError("has 3 fields, the header has 4", row=7, number=4, name="cost")
    assert error.detail == 'row 7, column 4 ("cost"): has 3 fields, the header has 4'
    nameless = InvalidCsvError("has 5 fields, the header has 4", row=7, number=5)
    assert nameless.detail == "row 7, column 5: has 5 fields, the header has 4"
    assert (error.column, nameless.column) == ("cost", "5")
