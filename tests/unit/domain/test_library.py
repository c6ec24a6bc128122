"""The library aggregate."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from support.replaying import assert_replays, stored_and_read

from nbledger_domain.errors import LibraryNotFoundError
from nbledger_domain.execution import Representation
from nbledger_domain.library import Library

AT = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)


def test_it_is_uploaded_and_deleted_once() -> None:
    content = Representation("application/zip", "5f" * 32, 5231)
    library = Library.upload(
        uuid4(),
        name="our-rules",
        version="1.2",
        file_name="our_rules-1.2-py3-none-any.whl",
        content=content,
        requires_python=None,
        dependencies=["pandas>=3"],
        at=AT,
    )
    history = stored_and_read(library)
    assert (library.name, library.library_version, library.content) == ("our-rules", "1.2", content)
    assert (library.requires_python, library.dependencies) == (None, ["pandas>=3"])
    assert_replays(library, history)
    library.delete(at=AT + timedelta(seconds=1))
    history += stored_and_read(library)
    assert library.deleted
    assert_replays(library, history)
    with pytest.raises(LibraryNotFoundError):
        library.delete(at=AT + timedelta(seconds=2))
    assert stored_and_read(library) == []
