"""The library aggregate."""

from datetime import timedelta
from uuid import uuid4

from support.aggregates import AT, given

from nbledger_domain.errors import LibraryNotFoundError
from nbledger_domain.execution import Representation
from nbledger_domain.library import Library


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
    uploaded = given(library)
    assert (library.name, library.library_version, library.content) == ("our-rules", "1.2", content)
    assert (library.requires_python, library.dependencies) == (None, ["pandas>=3"])
    deleted = uploaded.when(lambda it: it.delete(at=AT + timedelta(seconds=1)))
    assert deleted.then(Library.Deleted).deleted
    again = uploaded.when(lambda it: it.delete(at=AT + timedelta(seconds=2)))
    again.refused(LibraryNotFoundError)
